//! What of this host decides over a term: its clock, and the unit that the daemon runs in.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::cgroup;
use crate::log::printable;

/// Where the kernel says by what it tells the time.
const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// How long `systemctl` has.
const LIMIT: Duration = Duration::from_secs(3);

/// Where the configurations of the shipped unit's instances are.
const UNIT_CONFIGS: &str = "/etc/incumbent";

/// Lines on the host; `config` is the configuration's file. Only a job with a schedule minds what time
/// it is.
pub(super) fn report(config: Option<&Path>, is_scheduled: bool) -> String {
    let mut lines = match fs::read_to_string(CLOCK_SOURCE) {
        Ok(text) => clock_lines(text.trim()),
        Err(_) => vec!["clock source: unknown".to_owned()],
    };
    if is_scheduled {
        let mut timedatectl = Command::new("timedatectl");
        timedatectl.args(["show", "--property=NTPSynchronized"]);
        lines.push(time_line(output_of(timedatectl).as_deref()));
    }
    lines.extend(unit_lines(config));
    lines.join("\n") + "\n"
}

fn clock_lines(source: &str) -> Vec<String> {
    let mut lines = vec![format!("clock source: {}", printable(source))];
    lines.extend(clock_trouble(source).map(|trouble| format!("warning: {trouble}")));
    lines
}

/// What is wrong with a clock source, as the kernel names it.
fn clock_trouble(source: &str) -> Option<String> {
    match source {
        // They count interrupts, and lose time when one is missed.
        "jiffies" | "refined-jiffies" | "pit" => Some(format!(
            "clock source {source} loses time under load, and every deadline with it: use tsc, or \
             the hypervisor's clock"
        )),
        "hpet" | "acpi_pm" => Some(format!(
            "clock source {source} is what the kernel takes if it finds the processor's clock \
             unstable: see \"dmesg | grep -i clocksource\""
        )),
        _ => None,
    }
}

/// The line on the time of day, of which systemd says so.
fn time_line(shown: Option<&str>) -> String {
    let told = shown.and_then(|shown| shown.trim().strip_prefix("NTPSynchronized="));
    match told {
        Some("yes") => "time of day: synchronised".to_owned(),
        Some("no") => {
            "warning: this host's clock isn't synchronised, and runs begin by what it shows: \
                       set up chrony or systemd-timesyncd"
                .to_owned()
        }
        _ => "time of day: nobody here says whether it is synchronised".to_owned(),
    }
}

/// A unit of systemd, and the manager that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unit {
    name: String,
    of_user: bool,
}

impl Unit {
    /// The service that a control group belongs to, if any.
    fn of_group(path: &str) -> Option<Self> {
        let is_unit = |part: &&str| {
            [".service", ".scope"]
                .iter()
                .any(|kind| part.ends_with(kind))
        };
        let units: Vec<_> = path.split('/').filter(is_unit).collect();
        let name = units.last().filter(|name| name.ends_with(".service"))?;
        let manager = |part: &&str| part.starts_with("user@");
        (!manager(name)).then(|| Self {
            name: (*name).to_owned(),
            of_user: units.iter().any(manager),
        })
    }

    /// The instance of the shipped unit that reads this configuration.
    fn of_config(file: &Path) -> Option<Self> {
        let here = file.parent() == Some(Path::new(UNIT_CONFIGS));
        let instance = file.file_name()?.to_str()?.strip_suffix(".toml")?;
        here.then(|| Self {
            name: format!("incumbent@{instance}.service"),
            of_user: false,
        })
    }

    /// What its manager says of it; `None` if there is no manager, or no such unit.
    fn shown(&self) -> Option<String> {
        let mut command = Command::new("systemctl");
        if self.of_user {
            command.arg("--user");
        }
        command
            .args(["show", "--property=LoadState,KillMode,ExecStopPost", "--"])
            .arg(&self.name);
        let shown = output_of(command)?;
        shown
            .lines()
            .any(|line| line == "LoadState=loaded")
            .then_some(shown)
    }
}

/// Lines on the unit that reads the configuration, or else on the one that this process is in.
fn unit_lines(config: Option<&Path>) -> Vec<String> {
    if !Path::new("/run/systemd/system").exists() {
        return vec!["unit: none, there is no systemd here".to_owned()];
    }
    let config = config.and_then(|file| fs::canonicalize(file).ok());
    let of_config = config.and_then(|file| Unit::of_config(&file));
    let this = i32::try_from(std::process::id()).ok();
    let own = this
        .and_then(cgroup::of)
        .as_deref()
        .and_then(Unit::of_group);
    let mut units = [of_config, own].into_iter().flatten();
    match units.find_map(|unit| Some((unit.shown()?, unit))) {
        Some((shown, unit)) => lines_on(&unit.name, &shown),
        None => vec!["unit: none runs this configuration, or this command".to_owned()],
    }
}

/// Lines on a unit, of which its manager says so.
fn lines_on(unit: &str, shown: &str) -> Vec<String> {
    let property = |name: &str| {
        let mut lines = shown.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    };
    let mode = property("KillMode").unwrap_or("unknown");
    let unit = printable(unit);
    let mut lines = vec![format!("unit: {unit}, KillMode={}", printable(mode))];
    if mode != "mixed" {
        lines.push(format!(
            "warning: {unit} has KillMode={}: with any other than mixed, systemd signals the job \
             behind the guardian's back, or leaves it running after a crash",
            printable(mode)
        ));
    }
    let hook = property("ExecStopPost").is_some_and(|hook| hook.contains("release"));
    if !hook {
        lines.push(format!(
            "warning: {unit} has no ExecStopPost=incumbent release: after a crash of everything in \
             it the next replica waits for the TTL"
        ));
    }
    lines
}

/// What a command prints; `None` if it can't be run, fails, or takes too long.
fn output_of(mut command: Command) -> Option<String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdout = child.stdout.take()?;
    let (tell, told) = mpsc::channel();
    let read = move || {
        let mut text = String::new();
        if stdout.read_to_string(&mut text).is_ok() {
            tell.send(text).ok();
        }
    };
    let reader = std::thread::Builder::new().spawn(read);
    // Without a reader nothing is told, at once.
    drop(reader);
    let text = told.recv_timeout(LIMIT).ok();
    // One that has ended is as good.
    child.kill().ok();
    child.wait().ok();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, of_user: bool) -> Unit {
        let name = name.to_owned();
        Unit { name, of_user }
    }

    #[test]
    fn the_unit_is_the_last_in_the_control_group_if_it_is_a_service() {
        let instance = "/system.slice/system-incumbent.slice/incumbent@backup.service";
        let expected = Some(unit("incumbent@backup.service", false));
        assert_eq!(Unit::of_group(instance), expected);
        assert_eq!(Unit::of_group(&format!("{instance}/.control")), expected);
        let user = "/user.slice/user-1000.slice/user@1000.service";
        let of_user = format!("{user}/app.slice/backup.service");
        assert_eq!(Unit::of_group(&of_user), Some(unit("backup.service", true)));
        for none in [
            "/",
            user,
            &format!("{user}/app.slice/run-7.scope"),
            "/user.slice/user-0.slice/session-1.scope",
        ] {
            assert_eq!(Unit::of_group(none), None, "{none}");
        }
    }

    #[test]
    fn an_instance_is_named_by_its_configuration() {
        let of = |file: &str| Unit::of_config(Path::new(file));
        let expected = Some(unit("incumbent@backup.service", false));
        assert_eq!(of("/etc/incumbent/backup.toml"), expected);
        assert_eq!(of("/home/me/backup.toml"), None);
        assert_eq!(of("/etc/incumbent/backup.password"), None);
    }

    #[test]
    fn a_unit_that_is_not_as_shipped_draws_warnings() {
        let hook = "ExecStopPost={ path=/usr/bin/incumbent ; argv[]=/usr/bin/incumbent release ; }";
        let good = format!("LoadState=loaded\nKillMode=mixed\n{hook}\n");
        assert_eq!(
            lines_on("a.service", &good),
            ["unit: a.service, KillMode=mixed"]
        );
        for mode in ["control-group", "process", "none"] {
            let lines = lines_on("a.service", &good.replace("mixed", mode));
            assert_eq!(lines.len(), 2, "{lines:?}");
            let warning = format!("warning: a.service has KillMode={mode}: ");
            assert!(lines[1].starts_with(&warning), "{lines:?}");
        }
        let lines = lines_on("a.service", "KillMode=mixed\n");
        assert!(lines[1].contains("ExecStopPost"), "{lines:?}");
    }

    #[test]
    fn clocks_that_lose_time_draw_a_warning() {
        for good in [
            "tsc",
            "kvm-clock",
            "arch_sys_counter",
            "hyperv_clocksource_tsc_page",
        ] {
            assert_eq!(clock_lines(good), [format!("clock source: {good}")]);
        }
        for bad in ["jiffies", "refined-jiffies", "pit", "hpet", "acpi_pm"] {
            let lines = clock_lines(bad);
            assert!(lines[1].starts_with("warning: clock source"), "{lines:?}");
        }
    }

    #[test]
    fn a_clock_that_nobody_sets_draws_a_warning() {
        let good = time_line(Some("NTPSynchronized=yes\n"));
        assert_eq!(good, "time of day: synchronised");
        let bad = time_line(Some("NTPSynchronized=no\n"));
        assert!(bad.starts_with("warning: this host's clock isn't synchronised"));
        for unknown in [None, Some(""), Some("NTPSynchronized=n/a\n")] {
            assert!(time_line(unknown).starts_with("time of day: nobody"));
        }
    }

    #[test]
    fn a_command_that_hangs_says_nothing() {
        let mut echo = Command::new("echo");
        echo.arg("said");
        assert_eq!(output_of(echo).as_deref(), Some("said\n"));
        assert_eq!(output_of(Command::new("/nonexistent")), None);
        let mut sleep = Command::new("sleep");
        sleep.arg("1000");
        assert_eq!(output_of(sleep), None);
    }
}

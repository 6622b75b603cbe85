//! What a replica's daemon is started as, and with a job of what kind: an ordinary user who sees little,
//! a host whose name server knows a dead address, a job of another user, a daemon as the job.
//!
//! The variables of the term and the record stay what they are, so that the same rules judge.

use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::common::daemon::Builder;
use crate::common::names::Dead;
use crate::common::{Links, Sandbox, ordinary};
use crate::elections::Election;
use crate::holds::skip;
use crate::replicas::binary;

/// The TTL of daemons that are jobs, which no replica has: one that is killed with its tree leaves a
/// lease that ends by itself.
pub(crate) const NESTED_TTL: u64 = 7;

/// The name that has a dead address before its good one.
pub(crate) const NAME: &str = "store.test";

/// The dead address.
const DEAD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum World {
    Plain,
    /// The daemon is an ordinary user's, who sees nobody else's processes in `/proc`, nor what hides.
    Hidden,
    /// The job takes another user's rights.
    Nobody,
    /// The job is a daemon itself, which leads another election.
    Nested,
    /// The members' name has a dead address first.
    HalfDead,
}

/// What a replica needs in its worlds, made when it is first needed.
pub(crate) struct Ways {
    replica: String,
    user: u32,
    /// The tool where the name is known, and what answers nobody at the dead address.
    half_dead: OnceLock<(PathBuf, Vec<Dead>)>,
}

impl World {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "restart as it was at first",
            Self::Hidden => "restart as a user from whom /proc hides",
            Self::Nobody => "restart with a job of another user",
            Self::Nested => "restart with a daemon as the job",
            Self::HalfDead => "restart with a name that has a dead address",
        }
    }

    /// The same for a replica of this election: a daemon that is the job never comes to the end of a run, and
    /// there is none for each of several.
    pub(crate) fn of(self, election: Election) -> Self {
        match (self, election) {
            (Self::Nested, Election::Scheduled | Election::Of(_)) => Self::Plain,
            _ => self,
        }
    }

    /// Whether this machine has it; says once if not.
    pub(crate) fn can_be(self) -> bool {
        let has =
            matches!(self, Self::Plain | Self::Nested) || rustix::process::geteuid().is_root();
        if !has {
            skip(self.name(), "takes root");
        }
        has
    }
}

/// Lets every user write what the jobs record.
pub(crate) fn open(sandbox: &Sandbox, files: &[&str]) {
    fs::set_permissions(sandbox.path(), Permissions::from_mode(0o777)).unwrap();
    for name in files {
        let file = sandbox.join(name);
        fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&file)
            .unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    }
}

/// Where daemons that are jobs of this replica log to.
pub(crate) fn nested_log(sandbox: &Sandbox, replica: &str) -> PathBuf {
    sandbox.join(&format!("nested-{replica}.log"))
}

/// While this file is there, this owner's job gets a process of root's, if it can.
pub(crate) fn wish(sandbox: &Sandbox, owner: &str) -> PathBuf {
    sandbox.join(&format!("{owner}.root"))
}

impl Ways {
    pub(crate) fn new(replica: &str) -> Self {
        Self {
            replica: replica.to_owned(),
            user: ordinary::user(),
            half_dead: OnceLock::new(),
        }
    }

    /// A replica with this job in a world.
    pub(crate) fn settle(
        &self,
        builder: Builder,
        world: World,
        sandbox: &Sandbox,
        links: &Links,
        job: Vec<String>,
    ) -> Builder {
        let job = match world {
            World::Nested => self.nested(sandbox, links, job),
            _ => clad(world, sandbox, &self.replica, job),
        };
        self.house(builder.job(&job), world, sandbox, links)
    }

    /// A replica in a world, whatever its jobs.
    pub(crate) fn house(
        &self,
        builder: Builder,
        world: World,
        sandbox: &Sandbox,
        links: &Links,
    ) -> Builder {
        let folder = sandbox.join(&self.replica);
        if folder.exists() && rustix::process::geteuid().is_root() {
            ordinary::give(sandbox.path(), &folder, 0);
        }
        match world {
            World::Plain | World::Nobody | World::Nested => builder,
            World::Hidden => builder.of(self.user).hidepid(),
            World::HalfDead => {
                let (wrapper, _) = self
                    .half_dead
                    .get_or_init(|| self.half_dead(sandbox, links));
                let urls = links.urls().into_iter();
                let urls: Vec<_> = urls.map(|url| url.replace("127.0.0.1", NAME)).collect();
                builder
                    .binary(wrapper.clone())
                    .toml(&format!("etcd.endpoints = {urls:?}"))
            }
        }
    }

    fn half_dead(&self, sandbox: &Sandbox, links: &Links) -> (PathBuf, Vec<Dead>) {
        let hosts = format!("127.0.0.1 localhost\n{DEAD} {NAME}\n127.0.0.1 {NAME}\n");
        // Our own address would come first.
        let order = format!("precedence ::ffff:{DEAD}/128 100\nprecedence ::ffff:0:0/96 10\n");
        let files = [
            ("/etc/hosts", hosts.as_str()),
            ("/etc/gai.conf", order.as_str()),
        ];
        let name = format!("world-{}", self.replica);
        let wrapper = sandbox.with_files(&name, &binary(), &files);
        let dead = (0..links.urls().len()).map(|i| Dead::down(DEAD, links[i].address().port()));
        (wrapper, dead.collect())
    }

    /// A daemon that leads an election of its own, whose job has the variables of the term around it.
    fn nested(&self, sandbox: &Sandbox, links: &Links, job: Vec<String>) -> Vec<String> {
        let runtime = sandbox.join(&format!("nested-{}", self.replica));
        if !runtime.exists() {
            fs::DirBuilder::new().mode(0o700).create(&runtime).unwrap();
        }
        let file = sandbox.join(&format!("nested-{}.toml", self.replica));
        let config = format!(
            "runtime_dir = '{}'\netcd.endpoints = {:?}\nelection.ttl = '{NESTED_TTL}s'\n\
             log.format = 'json'\n\
             job = {{ stop_grace = '200ms', lost_grace = '100ms', kill_budget = '300ms', \
             restart_delay = '200ms', restart_delay_max = '2s' }}\n",
            runtime.display(),
            links.urls(),
        );
        fs::write(&file, config).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let variables = [
            "TOKEN",
            "ELECTION",
            "CANDIDATE",
            "LEASE",
            "LEADER_KEY",
            "CONFIG",
        ];
        let outer = variables.map(|name| format!("INCUMBENT_{name}=\"$INCUMBENT_{name}\""));
        // Each in an election of its own, lest it wait for the lease of one that was killed.
        let script = format!(
            "exec {} run -c {} --election \"/nested/$INCUMBENT_TOKEN-$$\" -- env {} \"$@\" 2>>{}",
            binary(),
            file.display(),
            outer.join(" "),
            nested_log(sandbox, &self.replica).display(),
        );
        let shell = ["sh", "-c", &script, "sh"].map(str::to_owned);
        shell.into_iter().chain(job).collect()
    }
}

/// A job as it is started in a world; `owner` is no other job's.
pub(crate) fn clad(world: World, sandbox: &Sandbox, owner: &str, job: Vec<String>) -> Vec<String> {
    match world {
        World::Plain | World::Nested | World::HalfDead => job,
        World::Hidden => with_roots(sandbox, owner, job),
        World::Nobody => {
            // Who may not read the config needs none of it.
            let user =
                "env -u INCUMBENT_CONFIG setpriv --reuid=65534 --regid=65534 --clear-groups --";
            user.split(' ').map(str::to_owned).chain(job).collect()
        }
    }
}

/// The job, with a process beside that takes root's rights and becomes part of the run once it is
/// wished for.
fn with_roots(sandbox: &Sandbox, owner: &str, job: Vec<String>) -> Vec<String> {
    let become_root = sandbox.join("become-root");
    if !become_root.exists() {
        fs::copy("/usr/bin/setpriv", &become_root).unwrap();
        fs::set_permissions(&become_root, Permissions::from_mode(0o4755)).unwrap();
    }
    let script = format!(
        "while kill -0 $$ && sleep 0.1; do [ -e {} ] && exec {} --reuid=0 --regid=0 \
             --clear-groups -- {} {} --every 10ms --ignore-term --part-of $$; done 2>&- & exec \"$@\"",
        wish(sandbox, owner).display(),
        become_root.display(),
        job[0],
        job[1],
    );
    let shell = ["sh", "-c", &script, "sh"].map(str::to_owned);
    shell.into_iter().chain(job).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::{Cluster, Daemon, Record, SOON, eventually, secs};
    use crate::holds::{Hold, Unkillable};

    #[test]
    fn a_job_counts_in_every_world_and_ends_with_its_daemon() {
        let cluster = Cluster::start(1);
        let sandbox = cluster.sandbox();
        let record = Record::new(sandbox, "record");
        open(sandbox, &["lock", "writes", "record.record"]);
        let (links, ways) = (Links::to(&cluster), Ways::new("a"));
        let file = |name: &str| sandbox.join(name).to_str().unwrap().to_owned();
        let (lock, writes, binary) = (file("lock"), file("writes"), binary());
        let flags = ["--lock", &lock, "--count", &writes, "/count", &binary];
        let job = record.command(&[&flags[..], &["--ignore-term"]].concat());
        for world in [
            World::Hidden,
            World::Plain,
            World::Nobody,
            World::Nested,
            World::HalfDead,
        ] {
            if !world.can_be() {
                continue;
            }
            let builder = Daemon::builder(&cluster, "a").through(&links);
            let builder = ways.settle(builder, world, sandbox, &links, job.clone());
            let a = builder.spawn();
            let token = a.wait_elected(secs(20));
            eventually(SOON, &format!("{world:?}: a write is accepted"), || {
                let text = std::fs::read_to_string(&writes).unwrap();
                text.contains(&format!("accepted {token} "))
            });
            a.sigkill();
            a.wait_no_processes(SOON);
        }
        record.history().assert_no_overlap();
    }

    #[test]
    fn a_hidden_users_job_has_a_process_of_roots_once_it_is_wished_for() {
        if !World::Hidden.can_be() {
            return;
        }
        let cluster = Cluster::start(1);
        let sandbox = cluster.sandbox();
        let record = Record::new(sandbox, "record");
        open(sandbox, &["record.record"]);
        let (links, ways) = (Links::to(&cluster), Ways::new("a"));
        let start = || {
            let builder = Daemon::builder(&cluster, "a").through(&links);
            let job = record.command(&[]);
            let builder = ways.settle(builder, World::Hidden, sandbox, &links, job);
            builder.spawn()
        };
        let a = start();
        let token = a.wait_elected(secs(20));
        let main = a.wait_job(SOON);
        record.wait_lives(token, 1, SOON);
        let mut tree = a.processes();
        tree.retain(|pid| ![a.pid(), a.guardian()].contains(pid));
        let wish = wish(sandbox, "a");
        let held = Unkillable::new(Hold::Roots, main, &tree, "", &wish).unwrap();
        record.wait_lives(token, 2, SOON);
        let roots = held.named(main);
        assert_ne!(roots, main);
        a.sigterm();
        let said = a.wait_log("job can't be killed", secs(10));
        assert!(
            said.text("pids").contains(&roots.to_string()),
            "{}",
            said.text
        );
        drop(held);
        assert!(a.wait_exit(SOON).success());
        // Without one, a stop takes no longer than of any other job.
        let a = start();
        a.wait_job(SOON);
        a.sigterm();
        assert!(a.wait_exit(secs(2)).success());
    }
}

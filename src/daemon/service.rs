//! What the service manager is told: readiness, status, and signs of life.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::candidate::{JobStanding, Public, Pulse, Role, Standings, UnwatchedTerm, Watchdog};
use crate::clock;
use crate::keys::JobName;
use crate::notify::{Delivery, Message, Notifier, watchdog_span};

/// Without a term there is no deadline that a hung daemon could miss; the watchdog only sees to it
/// that it is replaced some day.
const IDLE_WATCHDOG: Duration = Duration::from_mins(1);

/// From one message that wasn't heard to the next, should nothing change before.
const AGAIN: Duration = Duration::from_millis(50);

/// The same for a term that waits for it before anything of it starts.
const SOON_AGAIN: Duration = Duration::from_millis(5);

/// For so long at most a term waits for it, or a tenth of its TTL: a service manager that hears nothing for
/// longer wouldn't strike either, and the job is to run.
const TERM_WAITS: Duration = Duration::from_secs(1);

/// So long the watchdog waits, after a sign of life of a daemon that is killing a job, for the next one. All
/// that it could do for that term is being done.
const KILLING: Duration = Duration::from_millis(500);

/// For a watchdog whose time has come already.
const SOON: Duration = Duration::from_millis(1);

/// From one message to the next that isn't urgent, since each wakes the service manager: renewals of many jobs
/// come in between.
const QUIET: Duration = Duration::from_millis(250);

/// How much longer a planned stop may take, each time it is said: only while it gets on.
const STOP_EXTENSION: Duration = Duration::from_secs(30);

/// How long main loop and contest have to answer that they live; both take less than a millisecond. Who has come
/// round within that time isn't asked: with twenty jobs there is news so often that they would do little else.
const PULSE_LIMIT: Duration = Duration::from_secs(2);

/// Tells the service manager how the candidates are doing.
pub(super) struct Service {
    manager: Manager,
    /// Terms before anything of them starts.
    terms: mpsc::UnboundedReceiver<UnwatchedTerm>,
}

/// The service manager, and what it was told.
struct Manager {
    notifier: Notifier,
    watchdog: bool,
    /// Whether it knows that the daemon is up, before which no watchdog of it strikes.
    ready: Cell<bool>,
}

impl Service {
    /// And what has the watchdog set for terms, where there is one.
    pub(super) fn new() -> (Self, Option<Watchdog>) {
        let manager = Manager::from_env();
        let (watchdog, terms) = Watchdog::new();
        let watchdog = (manager.notifier.is_heard() && manager.watchdog).then_some(watchdog);
        (Self { manager, terms }, watchdog)
    }

    /// Tells of those that stand there until the daemon ends; waits for ever where nobody listens.
    pub(super) async fn run(self, standings: Standings) {
        if self.manager.notifier.is_heard() {
            tokio::join!(
                self.manager.keep_informed(standings.clone()),
                self.manager.arm_terms(self.terms, standings)
            );
        }
        std::future::pending::<()>().await;
    }
}

impl Manager {
    fn from_env() -> Self {
        Self {
            notifier: Notifier::from_env(),
            watchdog: std::env::var_os("WATCHDOG_USEC").is_some(),
            ready: Cell::new(false),
        }
    }

    /// Tells all changes, until there can't be any more.
    async fn keep_informed(&self, mut standings: Standings) {
        loop {
            let is_unready = !self.ready.get() && !self.tell_ready().is_over();
            let asked = standings.borrow().clone();
            let pulses = asked.iter().flat_map(|it| &it.view.pulses);
            let alive = is_alive(pulses.map(|(_, pulse)| pulse), PULSE_LIMIT).await;
            // Only now: a term that began meanwhile has its watchdog, and must not lose it again.
            let mut now = standings.borrow_and_update().to_vec();
            let seen = now.iter_mut().map(|standing| {
                let public = standing.view.public.borrow_and_update().clone();
                (standing.name().cloned(), public)
            });
            let seen: Vec<_> = seen.collect();
            let heard = self.tell(&seen, alive) && !is_unready;
            let (least, most) = pauses(&seen, heard);
            clock::sleep(least).await;
            tokio::select! {
                changed = standings.changed() => if changed.is_err() {
                    return;
                },
                () = any_changes(&mut now) => {}
                () = clock::sleep(most) => {}
            }
        }
    }

    /// Has the watchdog set for terms that wait for it, whatever else there is to tell.
    async fn arm_terms(
        &self,
        mut terms: mpsc::UnboundedReceiver<UnwatchedTerm>,
        standings: Standings,
    ) {
        let mut waiting = Vec::new();
        loop {
            tokio::select! {
                term = terms.recv() => match term {
                    Some(term) => waiting.push((term, clock::now())),
                    None => return,
                },
                () = clock::sleep(SOON_AGAIN), if !waiting.is_empty() => {}
            }
            let now = standings.borrow().clone();
            let leading = now.iter().map(|it| it.view.public.borrow().clone());
            let is_armed = self.arm(leading);
            let over = waiting.extract_if(.., |(term, since)| {
                is_armed || clock::now().since(*since) >= TERM_WAITS.min(term.timing.ttl() / 10)
            });
            for (term, _) in over {
                if !is_armed && watchdog_span(&term.timing).is_some() {
                    tracing::warn!(
                        election = %term.election,
                        "the service manager hears nothing: a term begins without its watchdog"
                    );
                }
                // Who has ended meanwhile needs no word.
                _ = term.go_on.send(());
            }
        }
    }

    fn tell_ready(&self) -> Delivery {
        let delivery = self.notifier.send(&[Message::Ready]);
        self.ready.set(delivery == Delivery::Taken);
        delivery
    }

    /// Sets the watchdog for those that lead; whether there is nothing left to be done for it.
    ///
    /// No sign of life: where another's term is kept alive by nobody any more, that one strikes first.
    fn arm(&self, seen: impl Iterator<Item = Public>) -> bool {
        let seen: Vec<Public> = seen.collect();
        let Some(first) = first_strike(seen.iter()) else {
            return true;
        };
        let mut messages = vec![Message::WatchdogInterval(first)];
        if !self.ready.get() {
            messages.insert(0, Message::Ready);
        }
        let delivery = self.notifier.send(&messages);
        if delivery == Delivery::Taken {
            self.ready.set(true);
        }
        delivery.is_over()
    }

    /// Tells how they stand; that all live only where they are `alive` (R15). Whether all of it was heard: a
    /// term whose watchdog is still that of who waits is guarded by none.
    fn tell(&self, seen: &[(Option<JobName>, Public)], alive: bool) -> bool {
        let status = describe(seen);
        let mut messages = vec![Message::Status(&status)];
        let is_stopping = seen.iter().any(|(_, it)| it.role == Role::Stopping);
        if alive && is_stopping {
            messages.push(Message::ExtendTimeout(STOP_EXTENSION));
        }
        if alive && self.watchdog {
            let first = first_strike(seen.iter().map(|(_, public)| public));
            messages.push(Message::WatchdogInterval(first.unwrap_or(IDLE_WATCHDOG)));
        }
        self.notifier.send(&messages).is_over() && alive
    }
}

/// How long from now on the watchdog is to wait for the first of the terms, if there is one for it. Only a
/// deadline that has moved is a sign of life while leading.
fn first_strike<'a>(seen: impl Iterator<Item = &'a Public>) -> Option<Duration> {
    let strikes = seen.filter_map(|public| {
        let sent = public.deadline? - public.timing.lifetime();
        let span = watchdog_span(&public.timing)?;
        // Zero would switch the watchdog off.
        let least = if is_being_killed(public) {
            KILLING
        } else {
            SOON
        };
        // What we can't kill is no reason to end all jobs.
        let in_vain = public.is_killing && !public.survivors.is_empty();
        (!in_vain).then(|| (sent + span).remaining().max(least))
    });
    strikes.min()
}

/// How long to tell nothing more after this, whatever changes, and how long where nothing does.
fn pauses(seen: &[(Option<JobName>, Public)], heard: bool) -> (Duration, Duration) {
    if !heard {
        return (Duration::ZERO, AGAIN);
    }
    let mut all = seen.iter().map(|(_, public)| public);
    // A term that ends is told of long before the watchdog would strike for it.
    let first = first_strike(all.clone()).unwrap_or(IDLE_WATCHDOG);
    let is_killing = all.any(is_being_killed);
    let wait = if is_killing { KILLING } else { IDLE_WATCHDOG };
    (QUIET.min(first / 8), wait / 4)
}

/// Whether its job is being killed, and there is no word yet that it can't be.
fn is_being_killed(public: &Public) -> bool {
    public.is_killing && public.survivors.is_empty()
}

/// Whether each of the loops comes round about now.
async fn is_alive(pulses: impl Iterator<Item = &Pulse>, limit: Duration) -> bool {
    for pulse in pulses {
        if !pulse.beats_about(limit).await {
            return false;
        }
    }
    true
}

/// Waits until one of them stands otherwise than it was seen last.
async fn any_changes(standings: &mut [JobStanding]) {
    let changes = standings.iter_mut().map(|it| {
        let public = &mut it.view.public;
        Box::pin(async move {
            if public.changed().await.is_err() {
                // One that has ended changes no more.
                std::future::pending::<()>().await;
            }
        })
    });
    let mut changes: Vec<_> = changes.collect();
    poll_fn(|context| {
        let mut polled = changes.iter_mut().map(|it| it.as_mut().poll(context));
        // Each has to be polled, to be heard of.
        let ready = polled.by_ref().filter(Poll::is_ready).count();
        if ready > 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// One line for `systemctl status`.
fn describe(seen: &[(Option<JobName>, Public)]) -> String {
    if let [(None, public)] = seen {
        return describe_one(public);
    }
    let leads = seen.iter().filter(|(_, it)| it.role == Role::Leading);
    let leads: Vec<&str> = leads
        .filter_map(|(name, _)| Some(name.as_ref()?.as_str()))
        .collect();
    let outside = seen.iter().find(|(_, it)| !it.role.stands());
    // The first word is what holds of all.
    let all = match outside {
        Some((_, public)) => format!(
            "{}, {} of {} jobs led",
            public.role.word(),
            leads.len(),
            seen.len()
        ),
        None if leads.is_empty() => format!("campaigning for {} jobs", seen.len()),
        None => format!("leading {} of {} jobs", leads.len(), seen.len()),
    };
    let mut told = vec![if leads.is_empty() {
        all
    } else {
        format!("{all}: {}", leads.join(", "))
    }];
    told.extend(seen.iter().filter_map(|(name, public)| {
        let is_told = public.trouble.is_some() || is_odd(public.role);
        let name = name.as_ref().filter(|_| is_told)?;
        Some(format!("{name}: {}", describe_one(public)))
    }));
    told.join("; ")
}

/// Whether a candidate in this role does neither what it is for nor wait for it.
fn is_odd(role: Role) -> bool {
    !role.stands() && role != Role::Waiting
}

fn describe_one(public: &Public) -> String {
    let stands = standing(public);
    match &public.trouble {
        Some(why) => format!("{stands}; {why}"),
        None => stands,
    }
}

fn standing(public: &Public) -> String {
    match (public.role, public.token, public.position) {
        (Role::Leading, Some(token), _) => format!("leading, token {token}"),
        (Role::Campaigning, _, Some(position)) => format!("campaigning, joined at {position}"),
        (Role::Unhealthy, ..) => {
            let last = public.health.as_ref().and_then(|it| it.last.as_deref());
            format!("unhealthy: {}", last.unwrap_or("the check fails"))
        }
        (role, _, _) => role.word().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::Arc;

    use tokio::sync::watch;

    use super::*;
    use crate::clock::{Instant, Tick};
    use crate::config::timing::Timing;
    use crate::config::{self, Source};
    use crate::proc::survivor::Survivor;

    /// How the candidate of a job stands that has this name and role.
    fn standing_in(name: &str, role: Role) -> (Option<JobName>, Public) {
        let second = Duration::from_secs(1);
        let mut public = Public::new(Timing::new(15 * second, second, second));
        public.role = role;
        (JobName::new(name), public)
    }

    /// A service manager's folder and its socket in there, and who tells it.
    fn heard() -> (tempfile::TempDir, UnixDatagram, Manager) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = Manager {
            notifier: Notifier::to(path.as_os_str().as_encoded_bytes()),
            watchdog: true,
            ready: Cell::new(false),
        };
        (folder, socket, manager)
    }

    /// What a service manager hears.
    fn told(seen: &[(Option<JobName>, Public)], alive: bool) -> String {
        let (_folder, socket, manager) = heard();
        manager.tell(seen, alive);
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_loop_that_hangs_feeds_no_watchdog_and_lengthens_no_stop() {
        let (beating, hanging) = (Pulse::new(Tick::new()), Pulse::new(Tick::new()));
        tokio::spawn(beating.clone().beat());
        let limit = Duration::from_millis(50);
        let alive = is_alive([&hanging].into_iter(), limit).await;
        assert!(alive, "it has come round just now");
        tokio::time::sleep(limit).await;
        let alive = is_alive([&beating].into_iter(), limit).await;
        let text = told(&[standing_in("", Role::Stopping)], alive);
        assert!(text.contains("WATCHDOG_USEC=60000000"), "{text}");
        assert!(text.contains("EXTEND_TIMEOUT_USEC=30000000"), "{text}");
        let alive = is_alive([&beating, &hanging].into_iter(), limit).await;
        let text = told(&[standing_in("", Role::Stopping)], alive);
        assert_eq!(text, "STATUS=stopping\n");
    }

    #[test]
    fn what_the_manager_can_not_take_now_counts_as_unheard() {
        let (_folder, socket, manager) = heard();
        let seen = [standing_in("", Role::Leading)];
        assert!(manager.tell(&seen, true));
        assert!(!manager.tell(&seen, false), "the watchdog was left out");
        while manager.tell(&seen, true) {}
        socket.recv(&mut [0; 4096]).unwrap();
        assert!(manager.tell(&seen, true), "there is room again");
    }

    #[test]
    fn what_is_killed_in_vain_is_no_reason_to_end_the_other_jobs() {
        let mut all = ["a", "b"].map(|name| standing_in(name, Role::Leading));
        let now = crate::clock::now();
        all[0].1.role = Role::Stopping;
        all[0].1.deadline = Some(now - Duration::from_mins(1));
        assert!(
            told(&all, true).contains("WATCHDOG_USEC=1000\n"),
            "not killed"
        );
        all[0].1.is_killing = true;
        assert!(told(&all, true).contains("WATCHDOG_USEC=500000\n"));
        let survivor = Survivor::of(1);
        all[0].1.survivors = Arc::new([survivor]);
        assert!(told(&all, true).contains("WATCHDOG_USEC=60000000\n"));
        all[1].1.deadline = Some(now + Duration::from_secs(12));
        let text = told(&all, true);
        assert!(!text.contains("WATCHDOG_USEC=60000000\n"), "{text}");
        // A job that goes on is guarded, whatever of an earlier run lives.
        all[0].1.is_killing = false;
        assert!(told(&all, true).contains("WATCHDOG_USEC=1000\n"));
    }

    #[tokio::test]
    async fn a_term_that_begins_while_its_loops_are_asked_keeps_its_watchdog() {
        let (_folder, socket, manager) = heard();
        socket.set_nonblocking(true).unwrap();
        let socket = tokio::net::UnixDatagram::from_std(socket).unwrap();
        let config = config::load(&Source::defaults("here")).unwrap().config;
        let mut standing = JobStanding::of_none(Arc::new(config));
        let (_, campaigning) = standing_in("", Role::Campaigning);
        let (publish, public) = watch::channel(campaigning);
        let pulse = Pulse::new(Tick::new());
        // So long ago that it is asked.
        tokio::time::sleep(PULSE_LIMIT).await;
        standing.view.public = public;
        standing.view.pulses.push(("contest", pulse.clone()));
        let (_all, standings) = watch::channel(Arc::new([standing]) as Arc<[JobStanding]>);
        let hear = async {
            pulse.asked().await;
            publish
                .send_modify(|now| now.deadline = Some(now.timing.deadline(crate::clock::now())));
            pulse.answer();
            let mut text = String::new();
            while !text.contains("WATCHDOG_USEC=") {
                let mut buffer = [0; 4096];
                let length = socket.recv(&mut buffer).await.unwrap();
                text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
            }
            text
        };
        let text = tokio::select! {
            () = manager.keep_informed(standings) => unreachable!(),
            text = hear => text,
        };
        assert!(!text.contains("WATCHDOG_USEC=60000000"), "{text}");
    }

    #[test]
    fn of_several_jobs_those_are_named_that_are_led_or_in_trouble() {
        let mut all = ["a", "b", "c", "d"].map(|name| standing_in(name, Role::Campaigning));
        all[0].1.role = Role::Leading;
        all[2].1.role = Role::Cooldown;
        all[3].1.trouble = Some("the store is away".into());
        let text = told(&all, true);
        let status =
            "STATUS=cooldown, 1 of 4 jobs led: a; c: cooldown; d: campaigning; the store is away\n";
        assert!(text.contains(status), "{text}");
        all[3].1.trouble = None;
        all[2].1.role = Role::Campaigning;
        let text = told(&all, true);
        assert!(text.contains("STATUS=leading 1 of 4 jobs: a\n"), "{text}");
        let text = told(&all[1..], true);
        assert!(text.contains("STATUS=campaigning for 3 jobs\n"), "{text}");
    }

    #[test]
    fn of_several_terms_the_first_that_ends_feeds_the_watchdog() {
        let mut all = ["a", "b"].map(|name| standing_in(name, Role::Leading));
        let now = crate::clock::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        let deadline = |at: Instant| Some(at);
        all[0].1.deadline = deadline(later(12));
        all[1].1.deadline = deadline(later(4));
        let interval = |text: &str| {
            let rest = text.split_once("WATCHDOG_USEC=").unwrap().1;
            rest.lines().next().unwrap().parse::<u64>().unwrap()
        };
        let both = interval(&told(&all, true));
        let first = interval(&told(&all[..1], true));
        assert!(both < first && both < 8_000_000, "{both} {first}");
    }
}

//! Many candidates in one election, and many elections of one process: what they cost the store, as its
//! members count it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::process::monotonic_ns;
use crate::common::*;

/// How many candidates there are.
const CROWD: usize = 50;

/// Calls of a hand-over are three: the resignation's two, and the claim. A few more are no herd;
/// each of the crowd would add one.
const CALLS: f64 = 20.0;

#[test]
fn a_hand_over_wakes_the_next_in_line_and_nobody_else() {
    let cluster = Cluster::start(3);
    let mut contenders = Contenders::start(&cluster, PREFIX, CROWD);
    let queue = cluster.queue(PREFIX);
    for (before_it, next) in queue[..=5].iter().enumerate().skip(1) {
        let before = cluster.served();
        contenders.hand_over();
        // Whoever else was woken looks at the store at once.
        throughout(millis(300), "one event is sent", || {
            let events = cluster.served().events - before.events;
            if events > 1.0 { Err(events) } else { Ok(()) }
        });
        let after = cluster.served();
        assert!(
            (after.events - before.events - 1.0).abs() < 0.5,
            "{before:?} {after:?}"
        );
        assert!(after.calls - before.calls < CALLS, "{before:?} {after:?}");
        assert_eq!(contenders.token(), next.create_revision);
        assert_eq!(contenders.waiting(), CROWD - 1 - before_it);
    }
}

/// Elections of one process.
const ELECTIONS: usize = 120;

/// A process that stands in all of them.
struct Crowd {
    child: Child,
    leads: Arc<AtomicUsize>,
}

impl Crowd {
    fn start(cluster: &Cluster, name: &str, ttl: u64) -> Self {
        let mut command = Command::new(example("many"));
        let (count, ttl) = (ELECTIONS.to_string(), ttl.to_string());
        command.args([&cluster.endpoints()[0], PREFIX, name, &count, &ttl]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let leads = Arc::new(AtomicUsize::new(0));
        let (output, told) = (child.stdout.take().unwrap(), Arc::clone(&leads));
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let number = line.rsplit(' ').next().unwrap();
                told.store(number.parse().unwrap(), Ordering::Relaxed);
            }
        });
        Self { child, leads }
    }

    fn leads(&self) -> usize {
        self.leads.load(Ordering::Relaxed)
    }

    #[track_caller]
    fn leads_in_all(&self, limit: Duration) {
        eventually(limit, "it leads in all elections", || {
            let leads = self.leads();
            if leads == ELECTIONS {
                Ok(())
            } else {
                Err(leads)
            }
        });
    }

    fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(folder).unwrap().count()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The takeover delay of the example.
const TAKEOVER_DELAY: Duration = Duration::from_millis(1500);

#[test]
fn many_elections_of_one_process_cost_a_renewal_each_and_are_taken_over_together() {
    let cluster = Cluster::start(1);
    // One thread does the work of all: where others want the processor too, it asks for more time.
    let ttl = patience(secs(5)).min(secs(20)).as_secs();
    let first = Crowd::start(&cluster, "first", ttl);
    // Nobody holds the others up until none is in time.
    first.leads_in_all(secs(30));
    assert!(
        first.descriptors() < 2 * ELECTIONS + 80,
        "{} descriptors",
        first.descriptors()
    );

    // A renewal of each in a fifth of the TTL; own keys are read together, and who is heard isn't asked.
    let (before, began) = (cluster.served(), monotonic_ns());
    throughout(secs(ttl), "it leads in all elections", || {
        let leads = first.leads();
        if leads == ELECTIONS {
            Ok(())
        } else {
            Err(leads)
        }
    });
    let requests = cluster.served().requests - before.requests;
    let took = Duration::from_nanos(monotonic_ns() - began).as_secs_f64();
    let rate = requests / took / f64::from(u32::try_from(ELECTIONS).unwrap());
    let interval = secs(ttl) / 5;
    let renewals = 1.0 / interval.as_secs_f64();
    // A member not heard for two seconds is asked by each watch.
    let probes = if interval > secs(2) { renewals } else { 0.0 };
    assert!(
        rate < renewals + probes + 0.3,
        "{rate} requests a second for each election, {renewals} of them renewals"
    );

    let next = Crowd::start(&cluster, "next", ttl);
    eventually(secs(30), "it waits in all elections", || {
        let waiting = cluster.served().watchers;
        // Three watches of each who waits, one or two of each who leads.
        let all = f64::from(u32::try_from(4 * ELECTIONS).unwrap());
        if waiting >= all { Ok(()) } else { Err(waiting) }
    });
    assert_eq!(first.leads(), ELECTIONS);
    drop(first);
    next.leads_in_all(secs(ttl) + TAKEOVER_DELAY + secs(1));
}

//! Many candidates in one election: who is woken by a hand-over, as the store's members count it.

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

//! Terms that go over to who should lead: between runs, and one at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Waiters;
use crate::candidate::{JobStanding, Public, Standings};
use crate::clock::{self, Instant};
use crate::election::queue::Queue;
use crate::election::wishes;
use crate::etcd::{Error, Settings, Store};
use crate::term::record::StepDown;

/// From one look at the queues to the next, at most; and the part of the patience that it is.
const ROUND: Duration = Duration::from_secs(30);
const PART: u32 = 5;

/// From one hand-over to the next.
const PAUSE: Duration = Duration::from_mins(1);

/// How long a question to the store may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Who the wishes are by.
const BY: &str = "job.prefer";

/// Hands terms over to those who should lead, for ever.
pub(in crate::daemon) async fn hand_over(standings: Standings) -> std::convert::Infallible {
    let mut waiters: BTreeMap<String, Waiters> = BTreeMap::new();
    let mut store: Option<(Settings, Store)> = None;
    let mut last = None;
    loop {
        let all = standings.borrow().to_vec();
        let led: Vec<_> = all.iter().filter(|it| may_be_better_led(it)).collect();
        let shortest = all.iter().map(|it| it.config.prefer_after / PART).min();
        clock::sleep(shortest.unwrap_or(ROUND).min(ROUND)).await;
        waiters.retain(|election, _| {
            led.iter()
                .any(|it| it.config.election.prefix.as_str() == election)
        });
        if led.is_empty() {
            // It costs nothing where nobody has a preference.
            store = None;
            continue;
        }
        for standing in led {
            let settings = &standing.config.etcd;
            let (_, store) = match store.take() {
                Some(known) if known.0 == *settings => store.insert(known),
                _ => store.insert((settings.clone(), Store::new(settings))),
            };
            let known = waiters.entry(standing.config.election.prefix.to_string());
            match look(store, standing, known.or_default(), last).await {
                Ok(true) => last = Some(clock::now()),
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "the queue can't be read"),
            }
        }
    }
}

/// Whether this replica leads it, and another one might be preferred.
fn may_be_better_led(standing: &JobStanding) -> bool {
    let config = &standing.config;
    let is_first = config.prefer.first() == Some(&config.candidate_name);
    !config.prefer.is_empty() && !is_first && standing.view.public.borrow().leads()
}

/// Looks for somebody better, and asks this replica's term to go over to it, unless a run goes on or
/// the `last` was just before; whether that was asked.
async fn look(
    store: &Store,
    standing: &JobStanding,
    waiters: &mut Waiters,
    last: Option<Instant>,
) -> Result<bool, Error> {
    let config = &standing.config;
    let (prefix, own) = (&config.election.prefix, &config.candidate_name);
    let queue = Queue::read(store, LIMIT, prefix).await?;
    let stand = queue.candidates.iter();
    let stand: Vec<_> = stand.map(|it| (it.lease, it.name.clone())).collect();
    let now = clock::now();
    let better = waiters.better(now, own, &stand, &config.prefer, config.prefer_after);
    let public = standing.view.public.borrow().clone();
    let is_soon = last.is_some_and(|last| now.since(last) < PAUSE);
    let (Some(to), false, false) = (better, is_soon, is_in_run(&public)) else {
        return Ok(false);
    };
    let (Some(lease), Some(token)) = (public.lease, public.token.filter(|_| public.leads())) else {
        return Ok(false);
    };
    let wish = StepDown {
        by: BY.to_owned(),
        since: clock::wall_time(),
        token,
        to: Some(to.to_string()),
        force: false,
        // What goes on now isn't known here for certain: the candidate decides.
        between_runs: true,
    };
    let asked = wishes::step_down(store, LIMIT, prefix, lease, &wish).await?;
    Ok(asked.is_some())
}

/// Whether a run goes on, or is claimed.
fn is_in_run(public: &Public) -> bool {
    let slots = public.slots.as_ref();
    public.job.up || slots.is_some_and(|slots| slots.state.open.is_some())
}

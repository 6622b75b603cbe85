//! Terms that go over to who should lead: between runs, and one at a time.

use std::time::Duration;

use crate::candidate::{JobStanding, Standings};
use crate::clock;
use crate::election::make_way::{Way, way};
use crate::election::queue::Queue;
use crate::election::wishes;
use crate::etcd::{Error, Settings, Store};
use crate::placement::preference::{self, BY, LedJob, Preference};
use crate::term::record::StepDown;

/// How long a question to the store may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Hands terms over to those who should lead, for ever.
pub(in crate::daemon) async fn hand_over(standings: Standings) -> std::convert::Infallible {
    let mut preference = Preference::default();
    let mut store: Option<(Settings, Store)> = None;
    loop {
        let all = standings.borrow().to_vec();
        let led: Vec<_> = all.iter().filter(|it| may_be_better_led(it)).collect();
        clock::sleep(preference::round(
            all.iter().map(|it| it.config.prefer_after),
        ))
        .await;
        preference.keep(|election| {
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
            match look(store, standing, &mut preference).await {
                Ok(true) => preference.asked(clock::now()),
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "the queue can't be read"),
            }
        }
    }
}

/// Whether this replica leads it, and another one might be preferred.
fn may_be_better_led(standing: &JobStanding) -> bool {
    let config = &standing.config;
    preference::may_be_better_led(&config.candidate_name, &config.prefer)
        && standing.view.public.borrow().leads()
}

/// Looks for somebody better, and asks this replica's term to go over to it, unless a run goes on or
/// the last hand-over was just before; whether that was asked.
async fn look(
    store: &Store,
    standing: &JobStanding,
    preference: &mut Preference,
) -> Result<bool, Error> {
    let config = &standing.config;
    let prefix = &config.election.prefix;
    let queue = Queue::read(store, LIMIT, prefix).await?;
    let stand = queue.candidates.iter();
    let stand: Vec<_> = stand.map(|it| (it.lease, it.name.clone())).collect();
    let public = standing.view.public.borrow().clone();
    let job = LedJob {
        election: prefix.as_str(),
        own: &config.candidate_name,
        prefer: &config.prefer,
        patience: config.prefer_after,
        in_run: public.is_in_run(),
    };
    let Some(to) = preference.successor(clock::now(), job, &stand) else {
        return Ok(false);
    };
    let (Some(lease), Some(token)) = (public.lease, public.token.filter(|_| public.leads())) else {
        return Ok(false);
    };
    if queue.is_paused() || matches!(way(&queue, token, to), Way::Barred(_)) {
        // It would be refused, and cost the other jobs their turn.
        return Ok(false);
    }
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

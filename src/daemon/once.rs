//! One run of a command under leadership: the daemon's parts, without what only a service needs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{mpsc, oneshot};

use super::stops::{DaemonStop, Stops};
use super::{Begun, keeper, make_ready, reap_orphans, start_and_fence, start_log};
pub(crate) use crate::candidate::Role;
use crate::candidate::{Candidate, Order, Parts};
pub(crate) use crate::candidate::{OnceOutcome, Public};
use crate::clock;
use crate::config::Config;
use crate::job::Jobs;
use crate::runtime_dir::RuntimeDir;
use crate::shortage::until_had;
use crate::signals::{Passed, PassedOn};
use crate::vital;

/// Stands for election, runs the command of `config` once, and gives back. Blocks.
///
/// For at most `wait` it waits to lead, or until `in_vain` is over, and then runs nothing. `in_vain` is
/// polled only while it waits. `watched` sees all that changes; it must not block, since renewals
/// depend on this thread.
///
/// # Errors
/// When a process, a thread or a descriptor can't be had.
pub(crate) fn run(
    config: Config,
    directory: &RuntimeDir,
    wait: Option<Duration>,
    in_vain: impl Future<Output = ()>,
    mut watched: impl FnMut(&Public),
) -> anyhow::Result<OnceOutcome> {
    let logs =
        start_log(&config, config.election.prefix.as_str()).context("no thread for the log")?;
    let runtime = make_ready()?;
    let outcome = runtime.block_on(async {
        let signals = until_had("what hears signals", PassedOn::new).await;
        let mut signals = signals.context("signals can't be handled")?;
        let over = async {
            match wait {
                Some(wait) => clock::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(over);
        let config = Arc::new(config);
        // Nothing was begun yet that would have to end.
        let ended = async {
            loop {
                tokio::select! {
                    passed = signals.next() => if passed.ends {
                        let signal = Some(passed.signal);
                        return OnceOutcome { signal, ..OnceOutcome::default() };
                    },
                    () = &mut over => return OnceOutcome::default(),
                }
            }
        };
        let (orders, inbox) = mpsc::unbounded_channel();
        reap_orphans(false);
        let (tell, told) = oneshot::channel();
        let starting = async {
            let parts = Parts {
                config: Arc::clone(&config),
                jobs: Jobs::default(),
                files: keeper(directory).await?,
                logs,
                orders: inbox,
                watchdog: None,
            };
            let started = Candidate::start_once(parts, tell).await;
            started.context("no guardian")
        };
        let begun = start_and_fence(starting, &config, directory.left(), ended).await?;
        let (candidate, view) = match begun {
            Begun::Ready(candidate, view) => (candidate, view),
            Begun::Over(outcome) => return Ok(outcome),
        };
        let mut public = view.public.clone();
        let silent = crate::candidate::ended(&view.pulses);
        tokio::pin!(silent);
        let running = candidate.run();
        tokio::pin!(running);
        tokio::pin!(in_vain);
        let (mut stops, mut waited, mut is_watched) = (Stops::default(), false, true);
        loop {
            let role = public.borrow().role;
            let waits = matches!(role, Role::Waiting | Role::Campaigning | Role::Unhealthy);
            let order = tokio::select! {
                () = &mut running => break,
                who = &mut silent => vital::gone(who),
                passed = signals.next() => match obey(passed, &mut stops) {
                    Some(order) => order,
                    None => continue,
                },
                () = &mut over, if !waited => {
                    waited = true;
                    Order::GiveUp
                }
                () = &mut in_vain, if waits && !waited => {
                    waited = true;
                    Order::GiveUp
                }
                changed = public.changed(), if is_watched => {
                    is_watched = changed.is_ok();
                    watched(&public.borrow_and_update());
                    continue;
                }
            };
            // The candidate's loop ends only with this one.
            drop(orders.send(order));
        }
        told.await.context("the candidate did not say how it ended")
    });
    runtime.shutdown_background();
    outcome
}

/// The first that asks for the end is the job's to heed. The same again within a second is nothing
/// new to it, and from then on the next is heeded for it. SIGQUIT is the job's own too, but hurries
/// a stop that has begun.
fn obey(passed: Passed, stops: &mut Stops) -> Option<Order> {
    if passed.hurries && stops.have_begun() {
        return Some(Order::ShutdownNow);
    }
    match passed.is_stop.then(|| stops.asked(clock::now())) {
        Some(DaemonStop::Hurry) => Some(Order::ShutdownNow),
        Some(DaemonStop::Same) => None,
        Some(DaemonStop::Begin) | None => Some(Order::PassOn {
            signal: passed.signal,
            ends: passed.ends,
        }),
    }
}

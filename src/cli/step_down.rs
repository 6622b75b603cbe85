//! `incumbent step-down`: a planned switch-over.

use std::process::ExitCode;

use super::away::Away;
use super::exit::Failure;
use super::options::{Asking, block_on, who};
use super::output;
use super::progress::ProgressLine;
use crate::clock;
use crate::election::follow::Follower;
use crate::election::make_way::{Way, way, why_barred};
use crate::election::queue::{Queue, QueuedCandidate};
use crate::election::wishes;
use crate::etcd::Store;
use crate::etcd::patience::LONGEST_ATTEMPT;
use crate::keys::Prefix;
use crate::log::printable;
use crate::revision::Revision;
use crate::term::record::StepDown;

/// Have the leader stop its job and let another candidate lead
///
/// It stands in the queue again afterwards. Refused (exit code 3), with nothing changed, if nobody
/// else is there, if the election is paused, so that nobody would follow, or if the one named by
/// --to can't be made next: a candidate of a Go program in front of it makes no way. With --wait also if another wish overtakes this one, or if somebody
/// else than the one named by --to comes to lead.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  incumbent step-down --election /backup --wait
  incumbent step-down --election /backup --to node2 --wait")]
pub(super) struct Args {
    #[command(flatten)]
    asking: Asking,

    /// Who is to lead: a candidate's name or lease; those in front of it join again behind it
    #[arg(long, value_name = "NAME|LEASE")]
    to: Option<String>,

    /// Return once another leads: with --to, that one
    #[arg(long)]
    wait: bool,

    /// Step down even if nobody else is there, or nobody may follow
    #[arg(long)]
    force: bool,
}

/// Asks the leader to step down.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = args.asking.load()?;
    let store = Store::unanimous(&config.etcd);
    block_on(ask(args, store, config.election.prefix))
}

async fn ask(args: &Args, store: Store, prefix: Prefix) -> Result<ExitCode, Failure> {
    let patience = args.asking.patience(&store);
    let queue = Queue::ask(&store, &patience, &prefix).await?;
    let leader = leader(&queue)?;
    let name = shown(leader);
    let chosen = match &args.to {
        Some(to) => Some(find(&queue, to)?),
        None => None,
    };
    if let Some(chosen) = chosen {
        if chosen.lease == leader.lease {
            output::write(format!("{name} leads already\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
        if let Way::Barred(why) = way(&queue, leader.token, chosen.lease) {
            let chosen = shown(chosen);
            return Err(refused(format!(
                "{chosen} can't be made next: {}",
                printable(&why)
            )));
        }
    } else if queue.candidates.len() < 2 && !args.force {
        return Err(refused(format!(
            "no other candidate; with --force {name} stops its job all the same"
        )));
    }
    if args.to.is_none()
        && (args.wait || !args.force)
        && let Some(why) = why_barred(&queue, leader.token)
    {
        return Err(refused(format!(
            "nobody would follow {name}: {}",
            printable(&why)
        )));
    }
    if queue.is_paused() && (args.wait || !args.force) {
        return Err(refused(format!(
            "the election is paused, and nobody would follow {name} until it is resumed{}",
            if args.wait {
                ""
            } else {
                "; with --force it stops its job all the same"
            }
        )));
    }
    let record = StepDown {
        by: who(),
        since: clock::wall_time(),
        token: leader.token,
        to: chosen.map(|chosen| chosen.lease.to_string()),
        force: args.force,
        between_runs: false,
    };
    let put = async |limit| wishes::step_down(&store, limit, &prefix, leader.lease, &record).await;
    let Some(asked_at) = patience.ask(put).await? else {
        return Err(refused(format!("{name} leads no more")));
    };
    if !args.wait {
        output::write(format!("asked {name} to step down\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let progress = ProgressLine::new();
    progress.say(format!("waiting for {name} to step down"));
    let wish = StepDownWish {
        leader,
        asked_at,
        to: chosen.map(|chosen| chosen.lease),
    };
    let next = wish.granted(store, prefix).await?;
    drop(progress);
    output::write(format!("{} leads\n", shown(&next)))?;
    Ok(ExitCode::SUCCESS)
}

/// What was asked, and of whom.
struct StepDownWish<'a> {
    leader: &'a QueuedCandidate,
    asked_at: Revision,
    to: Option<crate::keys::LeaseId>,
}

impl StepDownWish<'_> {
    /// Waits until another leads; goes on while the store is away.
    async fn granted(&self, store: Store, prefix: Prefix) -> Result<QueuedCandidate, Failure> {
        let mut follower = Follower::new(store, prefix, LONGEST_ATTEMPT);
        let mut away = Away::new();
        loop {
            match follower.next().await {
                Ok(queue) => {
                    if let Some(next) = self.outcome(&queue)? {
                        return Ok(next);
                    }
                }
                Err(error) => away.wait(error).await?,
            }
        }
    }

    /// Who leads in the old one's place, or why nobody will.
    fn outcome(&self, queue: &Queue) -> Result<Option<QueuedCandidate>, Failure> {
        let leader = shown(self.leader);
        let first = queue.first();
        if first.is_some_and(|first| first.token == self.leader.token) {
            return match queue.step_down {
                Some(asked_at) if asked_at == self.asked_at => Ok(None),
                Some(_) => Err(refused(format!(
                    "another wish has overtaken this one: {leader} has not stepped down yet"
                ))),
                None => Err(refused(format!(
                    "{leader} goes on leading; its log says why"
                ))),
            };
        }
        if let Some(to) = self.to {
            let gone = !queue
                .candidates
                .iter()
                .any(|candidate| candidate.lease == to);
            if gone {
                return Err(refused(format!(
                    "{leader} stepped down, but lease {to} is gone"
                )));
            }
        }
        match queue.leader() {
            // A signal, or a crash, came before the wish.
            Some(other) if self.to.is_some_and(|to| other.lease != to) => Err(refused(format!(
                "{leader} stepped down, but {} leads",
                shown(other)
            ))),
            None if queue.is_paused() => Err(refused(format!(
                "{leader} stepped down, but the election is paused: nobody follows until it is \
                 resumed"
            ))),
            next => Ok(next.cloned()),
        }
    }
}

/// The leader, if it is one that hears.
fn leader(queue: &Queue) -> Result<&QueuedCandidate, Failure> {
    let nobody = || {
        refused(match (queue.is_paused(), queue.first(), &queue.waits) {
            (true, ..) => "nobody leads: the election is paused".to_owned(),
            (_, Some(first), Some(waits)) => {
                let (first, waits) = (shown(first), printable(waits));
                format!("nobody leads: {first} is first in line, {waits}")
            }
            _ => "nobody leads".to_owned(),
        })
    };
    let leader = queue.leader().ok_or_else(nobody)?;
    if leader.member.is_none() {
        let leader = shown(leader);
        return Err(refused(format!(
            "{leader} is no incumbent and would not hear it"
        )));
    }
    Ok(leader)
}

/// The candidate with this name or lease, if there is one and no other.
fn find<'a>(queue: &'a Queue, text: &str) -> Result<&'a QueuedCandidate, Failure> {
    let is_lease = |candidate: &&QueuedCandidate| candidate.lease.to_string() == text;
    if let Some(found) = queue.candidates.iter().find(is_lease) {
        return Ok(found);
    }
    let of_name = queue
        .candidates
        .iter()
        .filter(|candidate| candidate.name == text);
    let found: Vec<&QueuedCandidate> = of_name.collect();
    match found[..] {
        [one] => Ok(one),
        [] => Err(refused(format!(
            "no candidate has the name or lease {}",
            printable(text)
        ))),
        _ => {
            let leases: Vec<String> = found.iter().map(|it| it.lease.to_string()).collect();
            let (text, leases) = (printable(text), leases.join(", "));
            Err(refused(format!(
                "several candidates have the name {text}: name a lease of {leases}"
            )))
        }
    }
}

fn shown(candidate: &QueuedCandidate) -> String {
    format!("{} (lease {})", printable(&candidate.name), candidate.lease)
}

fn refused(why: String) -> Failure {
    Failure::Refused(why)
}

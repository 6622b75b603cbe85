//! A candidate: one place in one queue.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, oneshot, watch};
use tokio::task::JoinHandle;

use super::candidacy::{Candidacy, Outcome};
use super::{CampaignError, Election, Leadership, OptionsError, Term, stage};
use crate::backoff::{Backoff, jitter};
use crate::election::{self, Progress};
use crate::timing::{
    LARGEST_TTL, SMALLEST_TTL, Timing, default_kill_budget, default_lost_grace,
    default_takeover_delay, smallest_takeover_delay,
};

/// The TTL where none is chosen: a term outlives a member of etcd that hangs, whichever it is.
const TTL: Duration = Duration::from_secs(15);

/// What work gets to end after a planned stop, where nothing is chosen.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// First and largest pause before [`Candidate::run`] stands again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Stands in one election, again and again if need be; made by [`Election::candidate`].
///
/// All that it needs is a TTL, and that has a default: by how much a leader that is gone without a word
/// holds up the next. The graces are parts of it that its work gets to end, before another may lead:
///
/// ```text
/// |<----------------------------- TTL ----------------------------->|
/// renewed                        ending()           dropped     lease over
///                                   |<- lost_grace ->|<- kill_budget ->|
/// ```
pub struct Candidate {
    election: Election,
    name: String,
    ttl: Duration,
    graces: Option<(Duration, Duration)>,
    takeover_delay: Option<Duration>,
    stop_grace: Duration,
    progress: watch::Sender<Option<Progress>>,
    /// What it remembers of those that it waited for, across candidacies; and the one place that it has.
    place: Option<Arc<Mutex<election::Election>>>,
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate")
            .field("election", &self.election.prefix())
            .field("name", &self.name)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

impl Candidate {
    pub(super) fn new(election: Election, name: String) -> Self {
        Self {
            election,
            name,
            ttl: TTL,
            graces: None,
            takeover_delay: None,
            stop_grace: STOP_GRACE,
            progress: watch::Sender::new(None),
            place: None,
        }
    }

    /// Asks for this TTL, in whole seconds, of at least two; 15 s if nothing is said. Under 15 s a member
    /// of etcd that hangs can end a term, and under 5 s any hitch can.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// What work gets when its term is being lost: to end by itself, and then to be gone. A fifth of the
    /// TTL each if nothing is said, at most 2 s and 1 s.
    #[must_use]
    pub const fn graces(mut self, lost_grace: Duration, kill_budget: Duration) -> Self {
        self.graces = Some((lost_grace, kill_budget));
        self
    }

    /// How long to wait before leading after a term whose end nobody proved; half a second more than the
    /// kill budget if nothing is said.
    #[must_use]
    pub const fn takeover_delay(mut self, delay: Duration) -> Self {
        self.takeover_delay = Some(delay);
        self
    }

    /// What work gets to end in [`run`](Self::run) when its end is planned, before its future is dropped;
    /// 30 s if nothing is said.
    #[must_use]
    pub const fn stop_grace(mut self, grace: Duration) -> Self {
        self.stop_grace = grace;
        self
    }

    /// Tells what it waits for while it campaigns.
    pub fn progress(&self) -> Waiting {
        Waiting {
            progress: self.progress.subscribe(),
        }
    }

    /// Stands and waits to lead. The term is on record, and its key is watched, before this returns.
    ///
    /// # Errors
    /// Why this candidacy came to nothing; its key is withdrawn. See [`CampaignError::may_pass`].
    ///
    /// # Cancel safety
    /// Safe: a future that is dropped withdraws the key, which the client's thread does. It needs no
    /// polling to keep its place.
    pub async fn campaign(&mut self) -> Result<Leadership, CampaignError> {
        let (outcome, _) = self.stand()?;
        led(outcome).await
    }

    /// Leads whenever it can, for ever or until `until`: does `work` in each term, gives back when that
    /// is over, and stands again, after any loss and whatever an operator asked for. Returns once nothing
    /// of it is left in etcd, or its TTL is all that is.
    ///
    /// The work has to end when its term is [ending](Term::ending): its future is dropped in time for the
    /// deadline, and [`stop_grace`](Self::stop_grace) after a planned end. Clones of the term in tasks
    /// that it has spawned are waited for, until the deadline. Work that ends by itself gives its term
    /// back and stands again, after a pause.
    ///
    /// # Errors
    /// What another campaign could not mend.
    ///
    /// # Cancel safety
    /// A future that is dropped drops the work, and gives back in the background.
    pub async fn run<U, W, F>(mut self, until: U, mut work: W) -> Result<(), CampaignError>
    where
        U: Future<Output = ()>,
        W: FnMut(Term) -> F,
        F: Future<Output = ()>,
    {
        let mut until = pin!(until);
        let mut pauses = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            let (outcome, withdrawn) = self.stand()?;
            let led = tokio::select! {
                biased;
                () = &mut until => None,
                led = led(outcome) => Some(led),
            };
            let pause = match led {
                None => {
                    // A panic there is the end of it, too.
                    drop(withdrawn.await);
                    return Ok(());
                }
                Some(Ok(leadership)) => {
                    let is_last = tend(leadership, &mut until, &mut work).await;
                    drop(withdrawn.await);
                    if is_last {
                        return Ok(());
                    }
                    pauses.reset();
                    pauses.next(jitter())
                }
                Some(Err(CampaignError::MakeWay)) => Duration::ZERO,
                Some(Err(error)) if error.may_pass() => pauses.next(jitter()),
                Some(Err(error)) => return Err(error),
            };
            tokio::select! {
                biased;
                () = &mut until => return Ok(()),
                () = self.election.engine.sleep(pause) => {}
            }
        }
    }

    /// Begins a candidacy on the client's thread; what is returned are its outcome, and its end.
    fn stand(&mut self) -> Result<(oneshot::Receiver<Outcome>, JoinHandle<()>), OptionsError> {
        let (timing, delay) = self.times()?;
        let (name, engine) = (self.name.clone(), &self.election.engine);
        let prefix = self.election.prefix.clone();
        let place = self.place.get_or_insert_with(|| {
            let (store, prefix) = (engine.store.clone(), prefix.clone());
            let election = election::Election::new(store, prefix, &name, delay);
            Arc::new(Mutex::new(election))
        });
        let candidacy = Candidacy {
            engine: Arc::clone(engine),
            election: Arc::clone(place),
            prefix,
            name,
            timing,
            stop_grace: self.stop_grace,
            progress: self.progress.clone(),
        };
        let (tell, outcome) = oneshot::channel();
        Ok((outcome, engine.spawn(candidacy.run(tell))))
    }

    /// The times that follow from what was chosen.
    fn times(&self) -> Result<(Timing, Duration), OptionsError> {
        let ttl = self.ttl;
        if ttl < SMALLEST_TTL || ttl > LARGEST_TTL || ttl.subsec_nanos() != 0 {
            return Err(OptionsError::Ttl(ttl));
        }
        let defaults = || (default_lost_grace(ttl), default_kill_budget(ttl));
        let (lost_grace, kill_budget) = self.graces.unwrap_or_else(defaults);
        let timing = Timing::new(ttl, lost_grace, kill_budget);
        let checked = timing.check();
        checked.map_err(|advice| OptionsError::NoRoom(advice.in_words_of_the_options()))?;
        let delay = self.takeover_delay;
        let delay = delay.unwrap_or_else(|| default_takeover_delay(kill_budget));
        let least = smallest_takeover_delay(kill_budget);
        if delay < least {
            return Err(OptionsError::TakeoverDelay { delay, least });
        }
        Ok((timing, delay))
    }
}

/// Waits for what a candidacy comes to.
async fn led(outcome: oneshot::Receiver<Outcome>) -> Outcome {
    let closed = || Err(CampaignError::Lost(crate::session::Loss::Closed));
    outcome.await.unwrap_or_else(|_| closed())
}

/// Does `work` in one term and gives it back; returns whether that was the last.
async fn tend<U, W, F>(leadership: Leadership, until: &mut U, work: &mut W) -> bool
where
    U: Future<Output = ()> + Unpin,
    W: FnMut(Term) -> F,
    F: Future<Output = ()>,
{
    let mut stage = leadership.stage();
    let mut is_last = false;
    {
        let mut working = pin!(work(leadership.term()));
        loop {
            tokio::select! {
                biased;
                () = stage::over(&mut stage) => break,
                () = &mut working => break,
                () = &mut *until, if !is_last => {
                    is_last = true;
                    leadership.stop();
                }
            }
        }
    }
    if let Err(error) = leadership.resign().await {
        tracing::debug!(%error, "term not given back");
    }
    is_last
}

/// What a candidate waits for, as it changes; made by [`Candidate::progress`].
#[derive(Debug)]
pub struct Waiting {
    progress: watch::Receiver<Option<Progress>>,
}

impl Waiting {
    /// Waits for the next news; `None` once the candidate is gone.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn next(&mut self) -> Option<Progress> {
        loop {
            self.progress.changed().await.ok()?;
            let progress = self.progress.borrow_and_update().clone();
            if progress.is_some() {
                return progress;
            }
        }
    }
}

//! The candidate's hold on its guardian: which one there is, and whether it still answers.

use std::io;
use std::time::Duration;

use tokio::sync::mpsc;

use super::held::Held;
use crate::clock::Instant;
use crate::config::Config;
use crate::guardian::client::{Event, Guardian};
use crate::guardian::protocol::{Report, Request};
use crate::proc::Process;

/// How long after D−K a guardian that is seen to act may take to prove the tree empty before it is
/// taken for stopped. K has room for it (R2).
const ACTING_LATE: Duration = Duration::from_millis(100);

/// A guardian and what it says.
pub(super) type Started = (Guardian, mpsc::UnboundedReceiver<Event>);

/// The guardian.
#[derive(Debug)]
pub(super) struct Guarding {
    guardian: Guardian,
    events: mpsc::UnboundedReceiver<Event>,
    /// What it was told of the present term.
    sent: Option<Sent>,
    /// It said that it stops the present term, so it knows of the deadline and acts on it.
    acting: bool,
    /// It said that the tree can't be emptied: it is not the one to blame.
    stuck: bool,
    /// It was given up on; the next one isn't there yet.
    pub(super) gone: bool,
}

/// What the guardian was told of a term.
#[derive(Clone, Copy, Debug)]
struct Sent {
    token: i64,
    /// The deadline that the term was sent with.
    first: Instant,
    /// The deadline that was sent last.
    last: Instant,
    /// How many acknowledgements are on their way: each term and each deadline brings one.
    pending: u32,
    /// How many of them come until that of the term as it was sent last.
    until_taken: u32,
}

/// Starts a guardian for the candidate of `config`.
pub(super) async fn start(config: &Config) -> io::Result<Started> {
    Guardian::start(&config.log, &config.election.prefix, &config.candidate_name).await
}

impl Guarding {
    pub(super) async fn start(config: &Config) -> io::Result<Self> {
        let (guardian, events) = start(config).await?;
        Ok(Self {
            guardian,
            events,
            sent: None,
            acting: false,
            stuck: false,
            gone: false,
        })
    }

    /// Waits for the guardian's next word.
    pub(super) async fn next(&mut self) -> Event {
        if self.gone {
            return std::future::pending().await;
        }
        self.events.recv().await.unwrap_or(Event::Gone)
    }

    /// What the guardian has said that was not heard yet.
    pub(super) fn waiting(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while !self.gone
            && let Ok(event) = self.events.try_recv()
        {
            events.push(event);
        }
        events
    }

    pub(super) fn replace(&mut self, (guardian, events): Started) {
        *self = Self {
            guardian,
            events,
            sent: None,
            acting: false,
            stuck: false,
            gone: false,
        };
    }

    pub(super) fn guardian(&self) -> Guardian {
        self.guardian.clone()
    }

    /// Its process, for the stop hook.
    pub(super) fn process(&self) -> Option<Process> {
        i32::try_from(self.guardian.pid())
            .ok()
            .and_then(Process::with_pid)
    }

    pub(super) fn send(&mut self, request: Request) {
        if let Request::Term(term) = &request {
            let before = self.sent.filter(|sent| sent.token == term.token);
            let pending = before.map_or(0, |sent| sent.pending) + 1;
            self.sent = Some(Sent {
                token: term.token,
                first: term.deadline,
                last: term.deadline,
                pending,
                until_taken: pending,
            });
            self.acting = false;
        }
        self.guardian.send(request);
    }

    /// Tells the guardian of a later deadline of the term that it guards.
    pub(super) fn move_deadline(&mut self, token: i64, deadline: Instant) {
        // Once it stops the term a later deadline saves nothing.
        if let Some(sent) = &mut self.sent
            && sent.token == token
            && sent.last < deadline
            && !self.acting
        {
            sent.last = deadline;
            sent.pending += 1;
            self.guardian.send(Request::Deadline { token, deadline });
        }
    }

    /// Whether the guardian has acknowledged the term as it was sent last.
    pub(super) fn acked(&self, token: i64) -> bool {
        self.sent
            .is_some_and(|sent| sent.token == token && sent.until_taken == 0)
    }

    /// Takes note of what its words say about itself.
    pub(super) fn note(&mut self, report: &Report) {
        match report {
            Report::Stopping { .. } => self.acting = true,
            Report::Stuck { .. } => self.stuck = true,
            Report::Guarded { token, .. } => {
                if let Some(sent) = &mut self.sent
                    && sent.token == *token
                {
                    sent.pending = sent.pending.saturating_sub(1);
                    sent.until_taken = sent.until_taken.saturating_sub(1);
                }
            }
            _ => {}
        }
    }

    /// When the guardian of the term in `held` is to be taken for dead or stopped, unless it is
    /// heard before: at D−G−K of the deadline that it acknowledged last if a later one was sent to
    /// it, else at the latest when it should have killed the tree.
    pub(super) fn silent_at(&self, held: &Held) -> Option<Instant> {
        let Sent {
            token, first, last, ..
        } = self.sent.filter(|_| !self.gone && !self.stuck)?;
        let acknowledged = self
            .guardian
            .acked_deadline()
            .filter(|(acknowledged, _)| *acknowledged == token)
            .map(|(_, deadline)| deadline);
        let timing = held.timing;
        match acknowledged {
            Some(acknowledged) if self.acting => Some(timing.kill(acknowledged) + ACTING_LATE),
            Some(acknowledged) if acknowledged >= last => Some(timing.kill(last)),
            Some(acknowledged) => Some(timing.polite_stop(acknowledged)),
            // Not even the term itself. That the lease is renewed meanwhile gives it no more time:
            // this candidate would lead for ever and run nothing.
            None => Some(timing.polite_stop(first)),
        }
    }

    /// The term is over: no word is expected of the guardian any more.
    pub(super) fn term_over(&mut self) {
        self.sent = None;
        self.acting = false;
        self.stuck = false;
    }
}

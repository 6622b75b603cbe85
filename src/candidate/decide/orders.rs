//! What the daemon asks: to end, to pass a signal on, to go on with another configuration.

use std::sync::Arc;

use super::once::Once;
use super::place::{After, Guard, Limit, Place};
use super::run::What;
use super::tenure::Stop;
use super::words::{Action, Command, Order};
use super::{Mind, Restarts};
use crate::config::Config;
use crate::guardian::protocol::Request;

impl Mind {
    pub(super) fn ordered(&mut self, order: Order) {
        match order {
            Order::Shutdown => self.shut_down(Limit::Deadline),
            Order::ShutdownNow => self.shut_down(Limit::OneAttempt),
            Order::StepDown => self.step_down(None),
            Order::PassOn { signal, ends } => self.pass_on(signal, ends),
            Order::GiveUp => self.give_up(),
            Order::Reload(config) => self.reload(config),
        }
    }

    /// Ends whatever goes on; with only one attempt left, without patience for the job either.
    pub(super) fn shut_down(&mut self, limit: Limit) {
        let stop = match limit {
            Limit::Deadline => Stop::Planned,
            Limit::OneAttempt => Stop::Kill,
        };
        match &mut self.place {
            Place::Out(_) => self.exit(),
            Place::Standing(_) => self.give_back(After::Exit(limit)),
            Place::Leading(..) => self.end(After::Exit(limit), stop),
            Place::Ending(_, ending) => {
                ending.after = ending.after.or_exit(limit);
                if stop == Stop::Kill {
                    self.kill_job();
                }
            }
            Place::GivingBack(_, after) => {
                let before = std::mem::replace(after, after.or_exit(limit));
                // The attempts that go on already are not begun anew.
                if *after != before {
                    self.hurry(limit);
                }
            }
            Place::Over => {}
        }
    }

    pub(super) fn exit(&mut self) {
        self.place = Place::Over;
        self.act(Action::Exit);
    }

    /// Passes a signal on to the job; without one, a signal that ends processes ends the candidacy.
    fn pass_on(&mut self, signal: i32, ends: bool) {
        // A run that was refused is there until its term is given back.
        let run = self.place.run();
        let is_jobs = run.is_some_and(|run| !matches!(run.what, What::Hook { .. }));
        let runs = is_jobs && self.once.as_ref().is_none_or(Once::is_done);
        let token = self.place.tenure().map(|tenure| tenure.token);
        match token.filter(|_| runs) {
            Some(token) => {
                if let Some(once) = self.once.as_mut().filter(|_| ends) {
                    once.passes_on(signal);
                }
                self.tell(Request::Signal { token, signal });
            }
            None if ends => {
                if let Some(once) = &mut self.once {
                    once.signalled(signal);
                }
                self.shut_down(Limit::Deadline);
            }
            None => {}
        }
    }

    /// Ends a candidacy that has not come to lead.
    fn give_up(&mut self) {
        let waits = self.once.as_mut().is_none_or(Once::give_up);
        if waits && !matches!(self.place, Place::Leading(..)) {
            self.shut_down(Limit::Deadline);
        }
    }

    fn reload(&mut self, config: Arc<Config>) {
        // Even with the same settings: the files that they name may have changed.
        self.ask(Command::Reload(
            config.etcd.clone(),
            config.election.takeover_delay,
            config.digest(),
        ));
        if config.job != self.config.job {
            self.restarts = Restarts::new(&config.job);
        }
        self.timing = config.timing();
        self.config = config;
        self.plan_anew(self.setup());
        // Guardian and stop hook must reach the store as we do now; the next run brings the rest.
        self.tell(Request::Log(self.config.log.clone()));
        self.reload_checks();
        if let Some(tenure) = self.place.tenure_mut()
            && tenure.guard == Guard::Current
        {
            tenure.guard = Guard::Outdated;
        }
        if let Some(candidacy) = self.place.candidacy_mut() {
            candidacy.resignation.store = self.config.etcd.clone();
            let resignation = candidacy.resignation.clone();
            self.tell_of_lease(resignation);
            self.write_lease_file(false);
        }
    }
}

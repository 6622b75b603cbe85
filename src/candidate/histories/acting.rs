//! What the daemon does for each action of the role machine.

use std::path::PathBuf;
use std::time::Duration;

use super::daemon::Word;
use super::store::Heard;
use super::world::{TOKEN, World};
use crate::candidate::told::Told;
use crate::etcd::{Settings, Tls};
use crate::guardian::protocol::{CommandSpec, Request};
use crate::keys::{LeaseId, Prefix};
use crate::role::{Action, Patience};
use crate::term::resignation::Resignation;

impl World {
    pub(super) fn act(&mut self, action: Action) {
        let (token, stop_signal) = (TOKEN, 15);
        match action {
            Action::StartRun => {
                self.daemon.run += 1;
                let run = self.daemon.run;
                if !self.in_daemon {
                    let (command, sole) = (CommandSpec::default(), true);
                    self.ask_guardian(Request::Start {
                        token,
                        run,
                        command,
                        sole,
                    });
                } else if self.daemon.told.acked(token) {
                    self.start_native();
                } else {
                    self.daemon.native_waits = true;
                }
            }
            Action::StopRun => {
                let grace = Duration::from_secs(30);
                self.ask_guardian(Request::StopRun {
                    token,
                    stop_signal,
                    grace,
                });
            }
            Action::StopJob(patience) => {
                let grace = match patience {
                    Patience::Planned => Duration::from_secs(30),
                    Patience::Lost => self.daemon.timing.lost_grace(),
                };
                self.ask_guardian(Request::Stop {
                    token,
                    stop_signal,
                    grace,
                });
                self.stop_native();
            }
            Action::KillJob => {
                self.ask_guardian(Request::Kill { token });
                self.stop_native();
            }
            Action::Fence => {
                self.guardian_killed();
                self.daemon.fencing = true;
                if self.job.alive {
                    self.job_killed();
                } else {
                    self.tell_daemon(Word::Fenced);
                }
            }
            Action::GiveBack => {
                self.daemon.leaving = true;
                self.daemon.told = Told::default();
                if self.daemon.leads {
                    self.ask_guardian(Request::EndTerm { token });
                }
                self.ask_store(Heard::Revocation);
            }
            Action::RestartAfter(pause) => self.daemon.restart_at = Some(self.clock() + pause),
            Action::Contend
            | Action::SayLost(_)
            | Action::Hurry(_)
            | Action::RejoinAfter(_)
            | Action::Exit => {}
        }
    }

    fn stop_native(&mut self) {
        self.daemon.restart_at = None;
        self.daemon.native_waits = false;
        if self.runs_in_daemon() {
            self.job_asked();
        }
    }
}

pub(super) fn resignation() -> Resignation {
    Resignation {
        store: Settings {
            endpoints: Vec::new(),
            connect_timeout: Duration::from_secs(1),
            username: None,
            password_file: None::<PathBuf>,
            tls: Tls::default(),
        },
        cluster: 7,
        prefix: Prefix::new("/a"),
        candidate: String::new(),
        lease: LeaseId::new(1).expect("a lease"),
        ttl: Duration::from_secs(15),
        attempt_limit: Duration::from_secs(1),
        token: Some(TOKEN),
        may_mark: true,
        step_down: None,
    }
}

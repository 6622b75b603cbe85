//! The log lines of a candidate: constant messages, with the fields that scripts rely on. Those that its
//! guardian or the stop hook may write as well stand in [`lines`](crate::lines).

use tracing::field::display;

use super::decide::End;
use super::decide::words::Line;
use crate::keys::Prefix;
use crate::lines::{HookEnd, Speaker, Voice, ms};
use crate::revision::Token;
use crate::schedule::planner::Line as Planned;

/// Who speaks.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    pub(super) election: Prefix,
    pub(super) candidate: String,
}

/// Writes one line of the given level with the fields that all lines have.
macro_rules! line {
    ($level:ident, $self:ident, $($rest:tt)*) => {
        tracing::$level!(
            election = %$self.election,
            candidate = $self.candidate.as_str(),
            $($rest)*
        )
    };
}

impl Lines {
    fn speaker(&self) -> Speaker<'_> {
        Speaker {
            voice: Voice::Candidate,
            election: &self.election,
            candidate: &self.candidate,
        }
    }

    #[expect(clippy::too_many_lines, reason = "an arm for each line of the log")]
    pub(super) fn say(&self, line: &Line) {
        match line {
            Line::Campaigning { lease, position } => {
                line!(info, self, %lease, position, "campaigning");
            }
            Line::Blocked { lease, key } => {
                line!(error, self, %lease, key, "queue blocked by a key that is no candidate");
            }
            Line::OffLease { lease, key } => {
                line!(warn, self, %lease, key, "the key in front is off its lease");
            }
            Line::Unreadable { lease, key } => {
                line!(error, self, %lease, key, "record can't be read");
            }
            Line::Differs { lease, from } => {
                line!(warn, self, %lease, from, "settings differ: the same election.*, job.* and hooks.* are wanted everywhere");
            }
            Line::Paused { lease } => line!(info, self, %lease, "election paused"),
            Line::Delayed { lease, delay } => {
                line!(info, self, %lease, delay_ms = ms(*delay), "waiting out the last term");
            }
            Line::Elected {
                lease,
                token,
                waited,
            } => line!(info, self, %lease, token = token.get(), waited_ms = ms(*waited), "elected"),
            Line::Refused { lease, reason } => {
                line!(error, self, %lease, reason, "refusing to lead");
            }
            Line::JobStarted { lease, token, pid } => {
                line!(info, self, %lease, token = token.get(), pid, "job started");
            }
            Line::JobNotStarted {
                lease,
                token,
                reason,
            } => line!(warn, self, %lease, token = token.get(), reason, "job not started"),
            Line::JobEnded { .. } => self.job_ended(line),
            Line::JobStopped {
                lease,
                token,
                pid,
                killed,
                took,
            } => {
                let speaker = self.speaker();
                speaker.job_stopped(Some(*lease), *token, *pid, *killed, *took);
            }
            Line::JobCanNotBeKilled {
                lease,
                token,
                survivors,
            } => {
                let speaker = self.speaker();
                speaker.job_can_not_be_killed(*lease, *token, survivors, None);
            }
            Line::LastHookKilled { .. } | Line::HookEnded { .. } => self.hook_ended(line),
            Line::Healthy => line!(info, self, "healthy"),
            Line::Unhealthy { reason } => line!(warn, self, reason, "unhealthy"),
            Line::CheckFailed { reason } => line!(warn, self, reason, "check failed"),
            Line::ChecksLost => line!(error, self, "guardian of checks lost"),
            Line::Resigned {
                lease,
                token,
                confirmed,
            } => self.speaker().resigned(*lease, *token, *confirmed),
            Line::TermLost {
                lease,
                token,
                reason,
            } => self.speaker().term_lost(Some(*lease), *token, *reason),
            Line::StoreUnreachable { since, error } => {
                line!(
                    warn,
                    self,
                    since_ms = ms(*since),
                    error,
                    "store unreachable"
                );
            }
            Line::StoreReachable { away } => {
                line!(info, self, away_ms = ms(*away), "store reachable again");
            }
            Line::Rejoining { after, reason } => {
                line!(
                    info,
                    self,
                    after_ms = ms(*after),
                    reason = reason.word(),
                    "rejoining"
                );
            }
            Line::CoolingDown { after } => {
                line!(
                    info,
                    self,
                    after_ms = ms(*after),
                    "staying out of the queue"
                );
            }
            Line::NotSteppingDown { term, reason } => {
                let lease = term.map(|(lease, _)| display(lease));
                let token = term.map(|(_, token)| token.get());
                line!(warn, self, lease, token, reason, "not stepping down");
            }
            Line::AskedToStepDown { lease, token, by } => {
                line!(debug, self, %lease, token = token.get(), by, "asked to step down");
            }
            Line::SteppingDown { lease, token, by } => {
                line!(info, self, %lease, token = token.get(), by, "stepping down");
            }
            Line::MakingWay { lease } => line!(info, self, %lease, "making way"),
            Line::DaemonKilled { lease, token } => {
                line!(error, self, %lease, token = token.get(), "killing this daemon: its Rust job does not end");
            }
            Line::GuardianGone => line!(error, self, "guardian lost"),
            Line::Slots { .. } | Line::NextSlot { .. } | Line::RunTimedOut { .. } => {
                self.of_slots(line);
            }
        }
    }

    fn job_ended(&self, line: &Line) {
        let Line::JobEnded {
            lease,
            token,
            end,
            ran,
            once,
        } = line
        else {
            return;
        };
        let End {
            pid,
            code,
            signal,
            error,
        } = end;
        let (signal, error, ran_ms) = (*signal, error.as_deref(), ms(*ran));
        if *once {
            // Whoever typed the command gets its exit code.
            line!(info, self, %lease, token = token.get(), pid, code, signal, ran_ms, "job ended");
        } else if *code == Some(0) {
            line!(info, self, %lease, token = token.get(), pid, code, ran_ms, "job ended");
        } else {
            line!(warn, self, %lease, token = token.get(), pid, code, signal, error, ran_ms, "job ended");
        }
    }

    fn of_slots(&self, line: &Line) {
        let (Line::Slots { term, .. } | Line::NextSlot { term, .. } | Line::RunTimedOut { term }) =
            line
        else {
            return;
        };
        let lease = term.map(|(lease, _)| display(lease));
        let token = term.map(|(_, token)| token.get());
        let line = match line {
            Line::NextSlot { slot, at, .. } => {
                let late = at.since(slot.time());
                let jitter_ms = (!late.is_zero()).then(|| ms(late));
                line!(info, self, lease, token, %slot, jitter_ms, "next slot");
                return;
            }
            Line::Slots { line, .. } => line,
            _ => {
                line!(warn, self, lease, token, "run timed out");
                return;
            }
        };
        match line {
            Planned::Claimed {
                slot,
                attempt,
                missed,
            } => {
                line!(info, self, lease, token, %slot, attempt, missed, "slot claimed");
            }
            Planned::Missed { slot, count } => {
                line!(warn, self, lease, token, %slot, count, "slot missed");
            }
            Planned::Skipped {
                slot,
                count,
                paused,
            } => {
                let reason = if *paused { "paused" } else { "overlap" };
                line!(info, self, lease, token, %slot, count, reason, "slot skipped");
            }
            Planned::Lost {
                slot,
                host,
                token: of_term,
                again,
            } => {
                let of_term = of_term.map_or(0, Token::get);
                line!(error, self, lease, token, %slot, host, of_term, again, "run lost");
            }
            Planned::TimedOut { slot } => {
                line!(warn, self, lease, token, %slot, "run timed out");
            }
            Planned::ClockStepped { by, forward } => {
                let direction = if *forward { "forward" } else { "back" };
                line!(
                    warn,
                    self,
                    lease,
                    token,
                    by_ms = ms(*by),
                    direction,
                    "clock stepped"
                );
            }
            Planned::ClockBehind { wall, until } => {
                line!(error, self, lease, token, %wall, %until, "clock behind the last claim");
            }
            Planned::Changed { since } => {
                line!(info, self, lease, token, %since, "schedule changed");
            }
            Planned::Unreadable { why } => {
                line!(
                    error,
                    self,
                    lease,
                    token,
                    error = why.as_str(),
                    "schedule's record can't be read"
                );
            }
        }
    }

    fn hook_ended(&self, line: &Line) {
        match line {
            Line::LastHookKilled { lease, token, ran } => {
                let (hook, killed, ran_ms) = ("on_lost", true, ms(*ran));
                line!(warn, self, %lease, token = token.get(), hook, killed, ran_ms, "hook ended");
            }
            Line::HookEnded {
                lease,
                token,
                end,
                killed,
                ran,
            } => {
                let end = HookEnd {
                    hook: "on_elected",
                    pid: end.pid,
                    code: end.code,
                    signal: end.signal,
                    error: end.error.as_deref(),
                    killed: *killed,
                    ran: *ran,
                };
                self.speaker().hook_ended(Some(*lease), *token, &end);
            }
            _ => {}
        }
    }

    pub(super) fn guardian_not_started(&self, error: &std::io::Error) {
        line!(error, self, %error, "guardian not started");
    }
}

//! Who is to follow a leader that is asked to step down, and whether that can be.

use std::time::Duration;

use super::Queue;
use super::make_way::{Way, way, why_barred};
use crate::backoff::{Backoff, jitter};
use crate::clock;
use crate::etcd::{Error, Store};
use crate::keys::{LeaseId, Prefix};
use crate::revision::Token;

/// How long those in front of the chosen one may take to make way; it takes them milliseconds.
const MAKE_WAY: Duration = Duration::from_secs(10);

/// First and largest pause between looks at whether they have.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// After the last of them has gone: as long as the chosen one needs to see it and to look who stands
/// in front of it now. One that still waited for another than the leader would have to wait out a
/// take-over delay when the leader has gone too (R13).
const LOOKS_AGAIN: Duration = Duration::from_millis(100);

/// What a leader was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuccessorWish {
    /// The term.
    pub token: Token,
    /// Who is to follow.
    pub to: Option<String>,
    /// Whether to step down even with nobody there.
    pub force: bool,
    /// The limit of one attempt.
    pub limit: Duration,
}

/// Looks whether the term is to step down, waiting for those who make way.
///
/// # Errors
/// As [`Store::attempt`]; the inner one says why it is not.
pub async fn look(
    store: &Store,
    prefix: &Prefix,
    asked: &SuccessorWish,
) -> Result<Result<(), String>, Error> {
    let until = clock::now() + MAKE_WAY;
    let mut pauses = Backoff::new(PAUSES.0, PAUSES.1);
    let mut made_way = false;
    loop {
        let queue = Queue::read(store, asked.limit, prefix).await?;
        if queue.is_paused() && !asked.force {
            return Ok(Err(PAUSED.to_owned()));
        }
        let Some(to) = &asked.to else {
            if asked.force {
                return Ok(Ok(()));
            }
            if queue.candidates.len() < 2 {
                return Ok(Err(ALONE.to_owned()));
            }
            return Ok(why_barred(&queue, asked.token).map_or(Ok(()), Err));
        };
        let Ok(chosen) = to.parse::<LeaseId>() else {
            return Ok(Err(format!("{to} is not a lease id")));
        };
        match way(&queue, asked.token, chosen) {
            Way::Clear => {
                if made_way {
                    clock::sleep(LOOKS_AGAIN).await;
                }
                return Ok(Ok(()));
            }
            Way::Barred(why) => return Ok(Err(why)),
            Way::Wait if until.has_passed() => {
                return Ok(Err("those in front made no way".to_owned()));
            }
            Way::Wait => {
                made_way = true;
                clock::sleep(pauses.next(jitter())).await;
            }
        }
    }
}

/// Why a leader stays whom nobody would follow.
const PAUSED: &str = "the election is paused";

/// Why a leader stays that could hand over to nobody.
const ALONE: &str = "no other candidate";

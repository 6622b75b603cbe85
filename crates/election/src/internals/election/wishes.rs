//! What operators ask of an election: the records under `control/`, and who heeds them.

use std::time::Duration;

use etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnOpResponse};

use super::queue::{Queue, QueuedCandidate};
use crate::etcd::{Error, Store, reads};
use crate::keys::{LeaseId, Prefix};
use crate::revision::{Revision, Token};
use crate::schedule::record::State;
use crate::term::guarded;
use crate::term::record::{PauseRecord, Record, StepDown, Trigger, TriggerAnswer, json};
use crate::wall::Time;

/// How often a pause is read anew that is to be ended, where what is known of it has changed.
const RESUME_TRIES: usize = 3;

/// Asks the term that `record` names to step down, if its key under `lease` still is; returns the
/// record's mod_revision then. One attempt of at most `limit`; may be repeated: a record that is
/// there already is left as it is, so that whoever heeds it and whoever waits for it mean the same.
///
/// # Errors
/// As [`Store::attempt`].
pub async fn step_down(
    store: &Store,
    limit: Duration,
    prefix: &Prefix,
    lease: LeaseId,
    record: &StepDown,
) -> Result<Option<Revision>, Error> {
    let text = serde_json::to_string(record).unwrap_or_default();
    wish(
        store,
        limit,
        (prefix, lease, record.token),
        prefix.step_down(),
        text,
    )
    .await
}

/// Asks the term with this lease and token for a run, as [`step_down`] asks it to end.
///
/// # Errors
/// As [`Store::attempt`].
pub async fn trigger(
    store: &Store,
    limit: Duration,
    (prefix, lease, token): (&Prefix, LeaseId, Token),
    record: &Trigger,
) -> Result<Option<Revision>, Error> {
    let text = serde_json::to_string(record).unwrap_or_default();
    wish(store, limit, (prefix, lease, token), prefix.trigger(), text).await
}

/// The wish for a run that was made last, with its answer, and the record's mod_revision.
///
/// # Errors
/// As [`Store::attempt`].
pub async fn read_trigger(
    store: &Store,
    limit: Duration,
    prefix: &Prefix,
) -> Result<Option<(Revision, Trigger)>, Error> {
    let (found, _) = store.get(limit, prefix.trigger(), None).await?;
    Ok(found.kvs().first().and_then(|kv| {
        let trigger = json::<Trigger>(kv.value()).read()?;
        Some((Revision::written(kv), trigger))
    }))
}

/// Puts the answer beside the wish for a run with this mod_revision, in one attempt, if the term with
/// this lease and token still is; nothing is done where the record is another by now.
///
/// # Errors
/// As [`Store::attempt`].
pub async fn answer_trigger(
    store: &Store,
    limit: Duration,
    (prefix, lease, token): (&Prefix, LeaseId, Token),
    asked_at: Revision,
    answer: TriggerAnswer,
) -> Result<(), Error> {
    let found = read_trigger(store, limit, prefix).await?;
    let Some((_, record)) = found.filter(|(at, _)| *at == asked_at) else {
        return Ok(());
    };
    let record = Trigger {
        answer: Some(answer),
        ..record
    };
    let text = serde_json::to_string(&record).unwrap_or_default();
    let key = prefix.trigger();
    let own = Compare::create_revision(prefix.candidate(lease), CompareOp::Equal, token.get());
    let same = Compare::mod_revision(key.as_str(), CompareOp::Equal, asked_at.get());
    let put = TxnOp::put(key.as_str(), text, None);
    let txn = Txn::new()
        .when([own, same])
        .and_then([put])
        .or_else([TxnOp::get(key, None)]);
    store.txn(limit, txn).await.map(drop)
}

/// Puts a wish, if the key of the term that is to grant it still is.
async fn wish(
    store: &Store,
    limit: Duration,
    (prefix, lease, token): (&Prefix, LeaseId, Token),
    key: String,
    text: String,
) -> Result<Option<Revision>, Error> {
    let same = Compare::value(key.as_str(), CompareOp::Equal, text.as_str());
    let put = TxnOp::put(key.as_str(), text, None);
    let put = TxnOp::txn(Txn::new().when([same]).or_else([put]));
    let then = vec![put, TxnOp::get(key, None)];
    let txn = guarded(&prefix.candidate(lease), token, then);
    let (answer, _) = store.txn(limit, txn).await?;
    let mut found = reads::firsts(&answer).flatten();
    Ok(found.next().as_ref().map(Revision::written))
}

/// Takes back the wish that a term step down with this mod_revision, that nobody comes to it later.
///
/// # Errors
/// As [`Store::attempt`].
pub async fn take_back(
    store: &Store,
    limit: Duration,
    prefix: &Prefix,
    asked_at: Revision,
) -> Result<(), Error> {
    take(store, limit, prefix.step_down(), asked_at).await
}

/// Takes back a wish for a run, as [`take_back`] does.
///
/// # Errors
/// As [`Store::attempt`].
pub async fn take_trigger_back(
    store: &Store,
    limit: Duration,
    prefix: &Prefix,
    asked_at: Revision,
) -> Result<(), Error> {
    take(store, limit, prefix.trigger(), asked_at).await
}

async fn take(
    store: &Store,
    limit: Duration,
    record: String,
    asked_at: Revision,
) -> Result<(), Error> {
    let same = Compare::mod_revision(record.as_str(), CompareOp::Equal, asked_at.get());
    let txn = Txn::new()
        .when([same])
        .and_then([TxnOp::delete(record.as_str(), None)])
        .or_else([TxnOp::get(record, None)]);
    store.txn(limit, txn).await.map(drop)
}

/// Pauses the election; returns the record's mod_revision. One attempt; may be repeated.
///
/// # Errors
/// As [`Store::attempt`].
pub async fn pause(
    store: &Store,
    limit: Duration,
    prefix: &Prefix,
    record: &PauseRecord,
) -> Result<Revision, Error> {
    let text = serde_json::to_string(record).unwrap_or_default();
    let txn = Txn::new().and_then([TxnOp::put(prefix.pause(), text, None)]);
    let (_, seen) = store.txn(limit, txn).await?;
    Ok(seen.revision)
}

/// Ends a pause, at this time of day; returns whether there was one. One attempt; may be repeated.
///
/// Where a job has a schedule and nobody led up to now, who leads next skips the slots of the paused time, by
/// the same transaction. Who was let lead on has passed them over itself, if it still leads.
///
/// # Errors
/// As [`Store::attempt`].
pub async fn resume(
    store: &Store,
    limit: Duration,
    prefix: &Prefix,
    now: Time,
) -> Result<bool, Error> {
    // State and leader may be others by the time when they are written by.
    for _ in 0..RESUME_TRIES {
        match Pause::read(store, limit, prefix).await {
            Ok(Some(pause)) => {
                if pause.end(store, limit, prefix, now).await? {
                    return Ok(true);
                }
            }
            Ok(None) => break,
            // Who may do no more than this may end a pause all the same.
            Err(error) if error.is_definite() => break,
            Err(error) => return Err(error),
        }
    }
    let txn = Txn::new().and_then([TxnOp::delete(prefix.pause(), None)]);
    let (answer, _) = store.txn(limit, txn).await?;
    let mut answers = answer.op_responses().into_iter();
    Ok(answers.any(|it| matches!(it, TxnOpResponse::Delete(deleted) if deleted.deleted() > 0)))
}

/// A pause of a job that has a schedule.
struct Pause {
    seen: i64,
    state: State,
    state_seen: i64,
    /// Who was let lead on, and still does.
    leader: Option<QueuedCandidate>,
}

impl Pause {
    /// `None` if there is no pause, or no schedule's state that can be read.
    async fn read(store: &Store, limit: Duration, prefix: &Prefix) -> Result<Option<Self>, Error> {
        let (found, _) = store.get(limit, prefix.schedule(), None).await?;
        let known = found
            .kvs()
            .first()
            .and_then(|kv| Some((State::read(kv.value()).ok()?, kv.mod_revision())));
        let Some((state, state_seen)) = known else {
            return Ok(None);
        };
        let (found, _) = store.get(limit, prefix.pause(), None).await?;
        let Some(pause) = found.kvs().first() else {
            return Ok(None);
        };
        let kept = |pause: &PauseRecord| pause.keep_leader;
        let leader = if json::<PauseRecord>(pause.value())
            .as_ref()
            .is_some_and(kept)
        {
            Queue::read(store, limit, prefix).await?.leader().cloned()
        } else {
            None
        };
        Ok(Some(Self {
            seen: pause.mod_revision(),
            state,
            state_seen,
            leader,
        }))
    }

    /// Ends it, if all is as it was read; whether it was.
    async fn end(
        &self,
        store: &Store,
        limit: Duration,
        prefix: &Prefix,
        now: Time,
    ) -> Result<bool, Error> {
        let is_same =
            |key: String, seen| Compare::mod_revision(key.as_str(), CompareOp::Equal, seen);
        let mut same = vec![is_same(prefix.pause(), self.seen)];
        let mut then = vec![TxnOp::delete(prefix.pause(), None)];
        if let Some(leader) = &self.leader {
            let (key, token) = (prefix.candidate(leader.lease), leader.token.get());
            same.push(Compare::create_revision(key, CompareOp::Equal, token));
        } else {
            let state = self.state.resumed(now).to_json();
            same.push(is_same(prefix.schedule(), self.state_seen));
            then.push(TxnOp::put(prefix.schedule(), state, None));
        }
        let txn = Txn::new().when(same).and_then(then);
        let (answer, _) = store.txn(limit, txn).await?;
        Ok(answer.succeeded())
    }
}

/// The candidate that may lead a term which does not heed the pause with this mod_revision.
///
/// Who joined after it claims after it, and is told. Who joined before may have claimed before;
/// it heeds the pause once its member record says so.
pub fn unpaused(queue: &Queue, paused_at: Revision) -> Option<&QueuedCandidate> {
    let first = queue.first()?;
    let member = first.member.as_ref().and_then(Record::as_ref);
    let heeded = member.and_then(|member| member.paused);
    (first.token.revision() < paused_at && heeded < Some(paused_at)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::term::record::MemberRecord;

    const PAUSED_AT: Revision = Revision::new(9);

    fn queue(token: i64, heeded: Option<i64>) -> Queue {
        let lease = LeaseId::new(1).unwrap();
        Queue {
            candidates: vec![QueuedCandidate {
                name: "a".to_owned(),
                lease,
                token: Token::new(token).unwrap(),
                key: Prefix::new("/a").candidate(lease),
                member: Some(Record::Read(MemberRecord {
                    paused: heeded.map(Revision::new),
                    ..MemberRecord::of_this_process("a")
                })),
                off_lease: false,
            }],
            ..Queue::default()
        }
    }

    #[test]
    fn a_term_is_unpaused_until_it_says_otherwise_or_is_over() {
        assert!(unpaused(&queue(5, None), PAUSED_AT).is_some());
        assert!(
            unpaused(&queue(5, Some(7)), PAUSED_AT).is_some(),
            "that was an earlier pause"
        );
        assert!(unpaused(&queue(5, Some(9)), PAUSED_AT).is_none());
        assert!(
            unpaused(&queue(11, None), PAUSED_AT).is_none(),
            "it joined after the pause"
        );
        assert!(unpaused(&Queue::default(), PAUSED_AT).is_none());
    }
}

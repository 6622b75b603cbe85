//! What a candidate that waits learns of the one in front of it, and notes for who comes later.

use etcd_client::{Compare, CompareOp, KeyValue, Txn, TxnOp};

use super::claim::Front;
use super::{Candidacy, Election, Progress, until_lost};
use crate::etcd::{Error, reads};
use crate::keys::{LeaseId, shown};
use crate::revision::Token;
use crate::session::{Loss, Session};
use crate::term::record::{self, MemberRecord, Record};

impl Election {
    /// What there is to wait for in front, under a key of the candidate with the lease `of`; what that
    /// tells is told and noted. `None` if what stands in front must be looked at again.
    pub(super) async fn neighbour(
        &mut self,
        session: &Session,
        candidacy: &Candidacy,
        front: &Front,
        of: LeaseId,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Option<Progress>, Loss> {
        let predecessor = &front.predecessor;
        let token = Token::of(predecessor);
        let member = self.member(session, of).await?;
        if self.differs(member.as_ref()) {
            progress(Progress::Differs(shown(predecessor.value())));
        }
        if member.is_none() && !self.note(session, candidacy, front).await? {
            return Ok(None);
        }
        if of.get() == predecessor.lease() {
            return Ok(Some(Progress::Behind(token)));
        }
        if member.is_some() {
            return Ok(Some(Progress::OffLease(shown(predecessor.key()))));
        }
        let led = front
            .recorded
            .as_ref()
            .is_some_and(|term| term.token == token);
        if led && self.put_away(session, predecessor, of).await? {
            return Ok(None);
        }
        Ok(Some(Progress::Blocked(shown(predecessor.key()))))
    }

    /// Deletes the key of a term that has outlived its lease, as the lease would have, had nothing
    /// taken the key off it. Returns whether it is gone, or has changed.
    async fn put_away(
        &self,
        session: &Session,
        predecessor: &KeyValue,
        of: LeaseId,
    ) -> Result<bool, Loss> {
        let limit = session.timing().attempt_limit();
        let look = || session.store().time_to_live(limit, of);
        if until_lost(session, look).await?.is_some() {
            return Ok(false);
        }
        let (key, member) = (predecessor.key(), self.prefix.member(of));
        let txn = Txn::new()
            .when([
                Compare::create_revision(key, CompareOp::Equal, predecessor.create_revision()),
                Compare::mod_revision(key, CompareOp::Equal, predecessor.mod_revision()),
                // It went with the lease.
                Compare::create_revision(member, CompareOp::Equal, 0),
            ])
            .and_then([TxnOp::delete(key, None)])
            .or_else([TxnOp::get(key, None)]);
        let (answer, _) = until_lost(session, || self.txn(session, txn.clone())).await?;
        if answer.succeeded() {
            tracing::warn!(
                election = %self.prefix, candidate = self.candidate, lease = %session.lease(),
                key = shown(key),
                "deleted the key of the last term: it was off its lease, which has ended"
            );
        }
        Ok(true)
    }

    /// The member record of the candidate with this lease; a candidate of a Go program leaves none.
    async fn member(
        &self,
        session: &Session,
        lease: LeaseId,
    ) -> Result<Option<Record<MemberRecord>>, Loss> {
        let read = Txn::new().and_then([TxnOp::get(self.prefix.member(lease), None)]);
        let (answer, _) = until_lost(session, || self.txn(session, read.clone())).await?;
        let mut found = reads::firsts(&answer).flatten();
        Ok(found.next().map(|kv| record::json(kv.value())))
    }

    /// Whether the candidate with this member record has other settings, and that was not found
    /// before.
    fn differs(&mut self, member: Option<&Record<MemberRecord>>) -> bool {
        let Some(theirs) = member
            .and_then(Record::as_ref)
            .and_then(|member| member.digest.clone())
        else {
            return false;
        };
        let both = (self.digest.get(), theirs);
        let differ = both.0.as_ref().is_some_and(|own| *own != both.1);
        if differ && self.differed.as_ref() != Some(&both) {
            self.differed = Some(both);
            return true;
        }
        false
    }

    /// Notes the candidate in front, which leaves no records itself: should its lease end without
    /// our hearing, who comes later has to wait out what it overruns (R13). Returns whether that is
    /// known, or else what stands in front must be looked at again.
    async fn note(
        &self,
        session: &Session,
        candidacy: &Candidacy,
        front: &Front,
    ) -> Result<bool, Loss> {
        let token = Token::of(&front.predecessor);
        match &front.foreign {
            (Record::Read(noted), _) if *noted >= Some(token) => return Ok(true),
            // It makes everyone wait already.
            (Record::Unreadable, _) => return Ok(true),
            _ => {}
        }
        let record = self.prefix.foreign();
        let is = |key: &[u8], created: Token| {
            Compare::create_revision(key, CompareOp::Equal, created.get())
        };
        let txn = Txn::new()
            .when([
                is(front.predecessor.key(), token),
                is(candidacy.key.as_bytes(), candidacy.create_revision),
                Compare::mod_revision(record.as_str(), CompareOp::Equal, front.foreign.1.get()),
            ])
            .and_then([TxnOp::put(record.as_str(), token.to_string(), None)])
            .or_else([TxnOp::get(record.as_str(), None)]);
        let attempt = || async {
            match self.txn(session, txn.clone()).await {
                // It waits all the same, and so does every one that has seen what it waited for.
                Err(error @ Error::Refused { .. }) => {
                    tracing::warn!(
                        election = %self.prefix, candidate = self.candidate, key = record, %error,
                        "foreign candidate not noted"
                    );
                    Ok(true)
                }
                answered => answered.map(|(answer, _)| answer.succeeded()),
            }
        };
        until_lost(session, attempt).await
    }
}

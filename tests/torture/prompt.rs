//! Decides whether hand-overs waited for no TTL where DESIGN §1 says that they need not.
//!
//! Two spans are looked at, since each can be told from the record by itself: from the end of a
//! job whose daemon was told to go or was killed to the end of its candidate key, and from the
//! end of a key whose job was proven dead to the first sign of the next job. Whatever else went on
//! at the time excuses them: there are enough with nothing beside.

use std::collections::BTreeMap;

use crate::checker::{After, Candidacy, Evidence, KEPT, SLOW, Thrown, Verdict, breach};
use crate::common::record::Life;

/// The longest that either may take, many times what it does take; a lease lasts 4 s and more, and
/// the shortest take-over delay is 0.9 s.
pub(crate) const LIMIT: u64 = 800_000_000;

/// How long after its end a fault may still be the reason why something took long.
const LINGERS: u64 = 5_000_000_000;

/// Who goes so short a time before the leader may not be seen to have gone first.
const UNSEEN: u64 = 1_000_000_000;

/// How far the end of a job and a signal to it may be apart in the record: some beats.
const BEATS: u64 = 100_000_000;

/// Times both kinds of spans, and adds what took too long to the breaches.
pub(crate) fn check(evidence: &Evidence, verdict: &mut Verdict) {
    let limit = LIMIT * u64::from(evidence.patience.max(1));
    given_back(evidence, limit, verdict);
    followed(evidence, limit, verdict);
}

/// All that is known of a term's job: its first sign, its last, and whether that one can be known.
pub(crate) fn terms(evidence: &Evidence) -> BTreeMap<i64, Life> {
    let mut terms: BTreeMap<i64, Life> = BTreeMap::new();
    for life in &evidence.lives {
        let term = terms.entry(life.token).or_insert_with(|| life.clone());
        term.start = term.start.min(life.start);
        term.last = term.last.max(life.last);
        term.hung |= life.hung;
    }
    terms
}

fn given_back(evidence: &Evidence, limit: u64, verdict: &mut Verdict) {
    let terms = terms(evidence);
    for fault in &evidence.thrown {
        let Some(name) = fault.replica.as_ref() else {
            continue;
        };
        let standing = evidence.candidates.iter().filter(|c| {
            c.name == *name
                && c.created_at + BEATS < fault.from
                && c.deleted_at.is_none_or(|gone| fault.from < gone)
        });
        for candidacy in standing {
            let term = terms.get(&candidacy.token);
            let (hung, last) = term.map_or((false, 0), |term| (term.hung, term.last));
            // Whoever did not lead has no term to lose; and whether it did can't be told from a job
            // that paused or was over.
            let led = last + BEATS >= fault.from;
            let over = match fault.after {
                After::Leaves => !hung,
                After::EndsTerm => !hung && led && has_heir(evidence, candidacy, fault.from),
                After::GoesOn | After::Lingers => false,
            };
            let from = fault.from.max(last);
            let until = candidacy.deleted_at.unwrap_or(u64::MAX).min(from + limit);
            if !over || !is_quiet(evidence, &[name], fault.from, until, Some(fault)) {
                continue;
            }
            let took = candidacy.deleted_at.map(|gone| gone.saturating_sub(from));
            if took.is_none_or(|took| took > limit) {
                let what = format!("{candidacy:?}\n    {took:?} ns after {fault:?}");
                verdict.breaches.push(breach(KEPT, from, what));
            }
            verdict.given_back.extend(took);
        }
    }
}

/// Whether somebody else stands beside this candidate at that moment.
fn has_heir(evidence: &Evidence, candidacy: &Candidacy, at: u64) -> bool {
    evidence.candidates.iter().any(|other| {
        let stays = other.deleted_at.is_none_or(|gone| at + LIMIT < gone);
        other.token != candidacy.token && other.created_at + BEATS < at && stays
    })
}

fn followed(evidence: &Evidence, limit: u64, verdict: &mut Verdict) {
    let terms = terms(evidence);
    let next_of = |token: i64| terms.range(token + 1..).next().map(|(_, term)| term);
    for old in evidence.candidates.iter().filter(|c| c.proven) {
        let (Some(gone), Some(gone_at)) = (old.deleted, old.deleted_at) else {
            continue;
        };
        let waiting = |c: &&Candidacy| {
            old.token < c.token && c.token < gone && c.deleted.is_none_or(|deleted| gone < deleted)
        };
        // Candidates are in the order of their tokens.
        let heir = evidence.candidates.iter().find(waiting);
        let (Some(heir), Some(next)) = (heir, next_of(old.token)) else {
            continue;
        };
        // Somebody who died before its job gave a sign, or a Go candidate.
        if heir.token != next.token || next.run < 0 || heir.created_at + BEATS > gone_at {
            continue;
        }
        let until = next.start.min(gone_at + limit);
        if !is_quiet(evidence, &[&heir.name], gone_at, until, None) {
            continue;
        }
        let took = next.start.saturating_sub(gone_at);
        let delayed = evidence.delays.iter().any(|(key, at)| {
            *key == heir.key && (gone_at.saturating_sub(BEATS)..=next.start).contains(at)
        });
        if took > limit || (delayed && is_plain(evidence, old, heir)) {
            let what = format!("{next}\n    {took} ns after the end of {old:?}");
            verdict.breaches.push(breach(SLOW, gone_at, what));
        }
        verdict.followed.push(took);
    }
}

/// Whether the one that follows could tell that nobody else led last: all records can be read, and
/// nobody who stood between the two was there until a moment before, perhaps unseen.
fn is_plain(evidence: &Evidence, old: &Candidacy, heir: &Candidacy) -> bool {
    let spoilt = |fault: &Thrown| fault.spoils && fault.to > old.created_at;
    let close = |c: &Candidacy| {
        let gone = c.deleted_at.zip(old.deleted_at);
        let unseen = gone.is_none_or(|(gone, end)| gone + UNSEEN > end);
        old.token < c.token && c.token < heir.token && unseen
    };
    !evidence.thrown.iter().any(spoilt) && !evidence.candidates.iter().any(close)
}

/// Whether nothing but `except` hit these replicas or the store, then or so short a time before that
/// it may still show.
pub(crate) fn is_quiet(
    evidence: &Evidence,
    names: &[&String],
    from: u64,
    until: u64,
    except: Option<&Thrown>,
) -> bool {
    !evidence.thrown.iter().any(|fault| {
        let near = match &fault.replica {
            None => true,
            Some(name) => names.contains(&name),
        };
        let lingers = if fault.after == After::Lingers {
            LINGERS
        } else {
            0
        };
        near && fault.from <= until
            && from <= fault.to.saturating_add(lingers)
            && !except.is_some_and(|except| std::ptr::eq(except, fault))
    })
}

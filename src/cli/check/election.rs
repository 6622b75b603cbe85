//! The election as it stands in the store: what blocks it, and who nests in it.

use crate::cli::nesting::outer_election;
use crate::etcd::{Patience, Store, patience};
use crate::keys::{LeaseId, Prefix};
use crate::log::printable;
use crate::status::{ElectionStatus, OF_LAST_TERM};

/// Lines on the election under `prefix`.
pub(super) async fn report(
    store: &Store,
    prefix: &Prefix,
    patience: &Patience,
) -> Result<Vec<String>, patience::Failure> {
    let status = ElectionStatus::read(store, prefix, patience).await?;
    let leader = match &status.leader {
        Some(leader) => format!("led by {}", printable(&leader.name)),
        None => "led by nobody".to_owned(),
    };
    let candidates = match status.queue.len() {
        1 => "1 candidate".to_owned(),
        count => format!("{count} candidates"),
    };
    let election = printable(prefix.as_str());
    let mut lines = vec![format!("election {election}: {candidates}, {leader}")];
    if status.paused {
        lines.push("warning: the election is paused: nobody new will lead".to_owned());
    }
    lines.extend(status.blocked_by.iter().map(|key| {
        if status.last_term.as_ref() == Some(key) {
            let key = printable(key);
            format!("warning: the queue is blocked by {key}, {OF_LAST_TERM}")
        } else {
            blocked(prefix, key)
        }
    }));
    lines.extend(status.unreadable.iter().map(|key| {
        let key = printable(key);
        format!("warning: the record {key} can't be read")
    }));
    if let Some(outer) = outer_election(store, prefix, patience).await {
        lines.push(format!(
            "warning: election {election} is nested in election {}, and its candidates block that \
             one: give it a prefix of its own",
            printable(outer.as_str())
        ));
    }
    Ok(lines)
}

/// What a key means that stands in the queue and is no candidate's.
fn blocked(prefix: &Prefix, key: &str) -> String {
    let shown = printable(key);
    match nested(prefix, key) {
        Some(inner) => format!(
            "warning: the queue is blocked by {shown}, a candidate of election {}, which is nested \
             in this one: give one of them another prefix",
            printable(inner)
        ),
        None => format!(
            "warning: the queue is blocked by {shown}, which is no candidate's key: delete it"
        ),
    }
}

/// The election under `prefix` that a key could be a candidate of, or a record.
fn nested<'a>(prefix: &Prefix, key: &'a str) -> Option<&'a str> {
    let rest = key.strip_prefix(&prefix.candidates())?;
    let election = if let Some(at) = rest.find(".meta/") {
        &rest[..at]
    } else {
        let (election, lease) = rest.rsplit_once('/')?;
        lease.parse::<LeaseId>().ok()?;
        election
    };
    Some(&key[..key.len() - rest.len() + election.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_of_an_election_within_are_told_from_strays() {
        let prefix = Prefix::new("/a");
        assert_eq!(nested(&prefix, "/a/b/1f"), Some("/a/b"));
        assert_eq!(nested(&prefix, "/a/b/c/1f"), Some("/a/b/c"));
        assert_eq!(nested(&prefix, "/a/b.meta/term"), Some("/a/b"));
        assert_eq!(nested(&prefix, "/a/b.meta/members/1f"), Some("/a/b"));
        for stray in ["/a/stray", "/a/1f", "/a/b/stray", "/a/b/01f"] {
            assert_eq!(nested(&prefix, stray), None, "{stray}");
        }
    }
}

//! Which cluster to believe, by what the endpoints say: pure, as the votes are counted.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use etcd_client::MemberListResponse;

use crate::etcd::Seen;

/// What an endpoint says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// Cluster, revision and raft term.
    pub seen: Seen,
    /// Its own id.
    pub member: u64,
    /// Id of the leader that it follows; 0 for none.
    pub leader: u64,
    /// How many members its cluster has; 0 if it doesn't say.
    pub members: usize,
    /// Where these serve their clients, by their own account.
    pub urls: Vec<String>,
}

/// What follows from the words of all endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustVerdict {
    /// Nobody has said anything.
    Silence,
    /// This cluster is to be believed: it speaks for most of the endpoints.
    Believed(u64),
    /// It speaks for half of the endpoints, and nobody for the others. Those may be away, or be another
    /// cluster that has yet to answer.
    Likely(u64),
    /// None is; why.
    Disputed(String),
}

/// Which cluster to believe, by the words of the endpoints that have spoken.
pub fn judge(words: &[(&str, Option<&Word>)]) -> TrustVerdict {
    let clusters: BTreeSet<u64> = clusters(words).into_keys().collect();
    let is_contradicted = clusters.len() > 1;
    let mut believed = Vec::new();
    let mut likely = None;
    for cluster in &clusters {
        match (2 * voices(words, *cluster, is_contradicted)).cmp(&words.len()) {
            Ordering::Greater => believed.push(*cluster),
            Ordering::Equal if !is_contradicted => likely = Some(*cluster),
            _ => {}
        }
    }
    match (believed.as_slice(), likely) {
        _ if clusters.is_empty() => TrustVerdict::Silence,
        ([cluster], _) => TrustVerdict::Believed(*cluster),
        ([], Some(cluster)) => TrustVerdict::Likely(cluster),
        _ => TrustVerdict::Disputed(disagreement(words)),
    }
}

/// The clusters that the endpoints say they are of. One without an id says nothing.
pub fn clusters<'a>(words: &[(&'a str, Option<&Word>)]) -> BTreeMap<u64, Vec<&'a str>> {
    let mut clusters = BTreeMap::<_, Vec<_>>::new();
    for (endpoint, word) in words {
        if let Some(word) = word.filter(|word| word.seen.cluster != 0) {
            clusters
                .entry(word.seen.cluster)
                .or_default()
                .push(*endpoint);
        }
    }
    clusters
}

/// For how many of the endpoints `cluster` speaks; for fewer if another one contradicts it.
fn voices(words: &[(&str, Option<&Word>)], cluster: u64, is_contradicted: bool) -> usize {
    let is_of = |word: &Word| word.seen.cluster == cluster;
    let own = words
        .iter()
        .filter_map(|(endpoint, word)| Some((*endpoint, (*word)?)));
    let own: Vec<(&str, &Word)> = own.filter(|(_, word)| is_of(word)).collect();
    let others = words
        .iter()
        .filter(|(_, word)| word.is_some_and(|word| word.seen.cluster != 0 && !is_of(word)));
    let room = words.len() - others.count();

    // Two names of one member are one voice against another.
    let members: BTreeSet<u64> = own.iter().map(|(_, word)| word.member).collect();
    let heard = if is_contradicted {
        members.len()
    } else {
        own.len()
    };
    let urls: BTreeSet<&str> = own
        .iter()
        .flat_map(|(_, word)| word.urls.iter().map(|url| address(url)))
        .collect();
    let listed = if own.iter().any(|(name, _)| urls.contains(address(name))) {
        // It knows its members by the names that we know them by.
        let is_listed = |endpoint: &str, word: Option<&Word>| match word {
            Some(word) => is_of(word),
            None => urls.contains(address(endpoint)),
        };
        let listed = words
            .iter()
            .filter(|(endpoint, word)| is_listed(endpoint, *word));
        if is_contradicted {
            let silent = listed.filter(|(_, word)| word.is_none());
            members.len() + silent.count()
        } else {
            listed.count()
        }
    } else {
        let members = own.iter().map(|(_, word)| word.members).max();
        members.unwrap_or(0).min(room)
    };
    heard.max(listed)
}

/// Host and port of a URL.
fn address(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.trim_end_matches('/')
}

/// Who says what, for people.
pub(super) fn disagreement(words: &[(&str, Option<&Word>)]) -> String {
    let clusters = clusters(words);
    let named = clusters.iter().map(|(id, endpoints)| {
        let endpoints = endpoints.join(", ");
        let has = |(_, word): &(&str, Option<&Word>)| {
            word.filter(|word| word.seen.cluster == *id)
                .map(|word| word.members)
        };
        let members = match words.iter().filter_map(has).max() {
            None | Some(0) => String::new(),
            Some(1) => " (1 member)".to_owned(),
            Some(members) => format!(" ({members} members)"),
        };
        format!("{endpoints} of cluster {id:x}{members}")
    });
    let named: Vec<_> = named.collect();
    let silent = words.iter().filter(|(_, word)| word.is_none());
    let silent: Vec<_> = silent.map(|(endpoint, _)| *endpoint).collect();
    let silent = match silent.as_slice() {
        [] => String::new(),
        silent => format!("; {} silent", silent.join(", ")),
    };
    let found = named.join("; ");
    let why = newer_list(words).unwrap_or_else(|| {
        "a member that was started as a cluster of its own would be a second store".to_owned()
    });
    format!("etcd.endpoints: expected members of one cluster, found {found}{silent}: {why}")
}

/// How the endpoints differ from the list of the one cluster that has spoken, where that knows its
/// members by such names: some were moved, or it is another store's member that has a name of ours.
fn newer_list(words: &[(&str, Option<&Word>)]) -> Option<String> {
    let spoken = words.iter().filter_map(|(_, word)| *word);
    let clusters = clusters(words);
    let list = spoken.max_by_key(|word| word.urls.len())?;
    let urls: BTreeSet<&str> = list.urls.iter().map(String::as_str).collect();
    let on_it = |endpoint: &str| urls.iter().any(|url| address(url) == address(endpoint));
    let (known, unknown): (Vec<_>, Vec<_>) = words
        .iter()
        .map(|(endpoint, _)| *endpoint)
        .partition(|endpoint| on_it(endpoint));
    let has_others = urls.len() > known.len();
    (clusters.len() == 1 && !known.is_empty() && !unknown.is_empty() && has_others).then(|| {
        let urls: Vec<&str> = urls.into_iter().collect();
        format!(
            "its own list of members differs: {}, without {}; if it is the right one, name its members",
            urls.join(", "),
            unknown.join(", ")
        )
    })
}

impl Word {
    /// Takes in who belongs to its cluster.
    pub(super) fn takes(&mut self, list: &MemberListResponse) {
        self.members = list.members().len();
        let members = list.members().iter();
        let urls = members.flat_map(etcd_client::Member::client_urls);
        self.urls = urls.cloned().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A word of member `member` of `cluster`, which has so many members, at addresses of its own.
    fn word(cluster: u64, member: u64, members: usize) -> Word {
        Word {
            seen: Seen {
                cluster,
                ..Seen::default()
            },
            member,
            members,
            ..Word::default()
        }
    }

    /// The same, which knows its members by these names.
    fn named(cluster: u64, member: u64, urls: &[&str]) -> Word {
        Word {
            urls: urls.iter().map(|url| format!("http://{url}")).collect(),
            ..word(cluster, member, urls.len())
        }
    }

    fn judged(words: &[Option<Word>]) -> TrustVerdict {
        let names = ["http://a:1", "http://b:1", "http://c:1", "http://d:1"];
        let names = names.iter().copied();
        let words: Vec<_> = names.zip(words.iter().map(Option::as_ref)).collect();
        judge(&words)
    }

    fn is_disputed(words: &[Option<Word>]) -> bool {
        matches!(judged(words), TrustVerdict::Disputed(_))
    }

    const ALL: [&str; 3] = ["a:1", "b:1", "c:1"];

    #[test]
    fn most_endpoints_outvote_a_stray_member() {
        let words = [
            Some(named(7, 1, &ALL)),
            Some(named(7, 2, &ALL)),
            Some(named(9, 3, &["c:1"])),
        ];
        assert_eq!(judged(&words), TrustVerdict::Believed(7));
        let one_away = [Some(named(7, 1, &ALL)), None, Some(named(9, 3, &["c:1"]))];
        assert_eq!(judged(&one_away), TrustVerdict::Believed(7));
        let behind_other_names = [Some(word(7, 1, 3)), None, Some(word(9, 3, 1))];
        assert_eq!(judged(&behind_other_names), TrustVerdict::Believed(7));
    }

    #[test]
    fn a_stray_member_that_is_all_there_is_to_see_is_not_believed() {
        assert!(is_disputed(&[None, None, Some(named(9, 3, &["c:1"]))]));
        assert!(is_disputed(&[None, None, Some(word(9, 3, 1))]));
        assert!(is_disputed(&[
            Some(word(7, 1, 1)),
            Some(word(9, 3, 1)),
            None
        ]));
        // A member of another store altogether, which has as many members as ours.
        let another = named(9, 3, &["c:1", "x:1", "y:1"]);
        assert!(is_disputed(&[None, None, Some(another)]));
    }

    #[test]
    fn one_member_of_the_list_that_is_all_there_is_to_see_is_believed() {
        let words = [Some(named(7, 1, &ALL)), None, None];
        assert_eq!(judged(&words), TrustVerdict::Believed(7));
        assert_eq!(
            judged(&[Some(word(7, 1, 3)), None, None]),
            TrustVerdict::Believed(7)
        );
    }

    #[test]
    fn several_balancers_or_names_of_one_member_are_believed() {
        let same = || Some(word(7, 1, 1));
        assert_eq!(judged(&[same(), same(), same()]), TrustVerdict::Believed(7));
        assert_eq!(judged(&[same(), same(), None]), TrustVerdict::Believed(7));
        assert_eq!(judged(&[same(), None]), TrustVerdict::Likely(7));
        assert_eq!(
            judged(&[Some(word(7, 1, 3)), None]),
            TrustVerdict::Believed(7)
        );
    }

    #[test]
    fn half_of_the_list_is_not_most_of_it() {
        let alone = || Some(named(9, 3, &["b:1"]));
        assert_eq!(judged(&[None, alone()]), TrustVerdict::Likely(9));
        assert!(is_disputed(&[Some(named(7, 1, &ALL)), alone()]));
        let listed = [Some(named(7, 1, &ALL)), None];
        assert_eq!(judged(&listed), TrustVerdict::Believed(7));
    }

    #[test]
    fn two_names_of_a_stray_member_are_one_voice() {
        let stray = || Some(word(9, 3, 1));
        assert!(is_disputed(&[stray(), stray(), Some(word(7, 1, 1))]));
        let words = [stray(), stray(), Some(word(7, 1, 3)), Some(word(7, 2, 3))];
        assert!(is_disputed(&words));
    }

    #[test]
    fn two_against_two_are_no_majority() {
        assert!(is_disputed(&[Some(word(7, 1, 1)), Some(word(9, 2, 1))]));
        assert!(is_disputed(&[
            Some(word(7, 1, 4)),
            Some(word(7, 2, 4)),
            Some(word(9, 3, 2)),
            Some(word(9, 4, 2)),
        ]));
    }

    #[test]
    fn nobody_who_speaks_is_silence() {
        assert_eq!(judged(&[None, None]), TrustVerdict::Silence);
        assert_eq!(judged(&[Some(word(0, 0, 0)), None]), TrustVerdict::Silence);
    }

    #[test]
    fn a_disagreement_names_who_is_of_which_cluster() {
        let words = [Some(word(7, 1, 1)), Some(word(0xab, 3, 1)), None];
        let TrustVerdict::Disputed(why) = judged(&words) else {
            panic!("believed");
        };
        assert!(why.contains("http://b:1 of cluster ab (1 member)"), "{why}");
        assert!(why.contains("http://c:1 silent"), "{why}");
    }

    #[test]
    fn a_list_that_is_out_of_date_is_told_from_a_stray_member() {
        let disputed = |word: Word| {
            let TrustVerdict::Disputed(why) = judged(&[None, None, Some(word)]) else {
                panic!("believed");
            };
            why
        };
        // Two of three members were moved to other hosts.
        let why = disputed(named(7, 3, &["c:1", "x:1", "y:1"]));
        let differs = "its own list of members differs: http://c:1, http://x:1, http://y:1, without \
                       http://a:1, http://b:1";
        assert!(why.contains(differs), "{why}");
        assert!(!why.contains("second store"), "{why}");
        for stray in [named(9, 3, &["c:1"]), word(9, 3, 1)] {
            let why = disputed(stray);
            assert!(why.contains("second store"), "{why}");
            assert!(!why.contains("list of members"), "{why}");
        }
    }
}

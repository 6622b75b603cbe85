//! The members of the store, each asked by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::clock::{self, Instant};
use crate::config::Config;
use crate::etcd::about::About;
use crate::etcd::trust::{self, TrustVerdict, Word};
use crate::etcd::version::{self, lease_bugs, permission_bug, revokes_after_a_freeze};
use crate::etcd::{Error, Store};
use crate::log::printable;

/// How many reads are timed on each member.
const READS: usize = 5;

/// From this TTL on, no lease was seen revoked by a leader that woke from a freeze of 8 s.
const OUTLASTS_FREEZES: Duration = Duration::from_secs(15);

/// One member, as it answers.
#[derive(Debug)]
pub(super) struct CheckedMember {
    pub(super) endpoint: String,
    about: Result<About, Error>,
    /// Of which cluster it is, and who belongs to that.
    word: Option<Word>,
    /// The longest of some linearizable reads.
    read: Result<Duration, Error>,
}

/// Asks every member of the configuration, all at once and each for `limit` at most, in the order in which
/// they stand there.
pub(super) async fn ask(config: &Config, limit: Duration) -> Vec<CheckedMember> {
    let key = config.election.prefix.ended();
    let mut asked = JoinSet::new();
    for (place, endpoint) in config.etcd.endpoints.iter().enumerate() {
        let store = Store::new(&config.etcd.of_member(endpoint));
        let (endpoint, key) = (endpoint.clone(), key.clone());
        asked.spawn(async move {
            let until = clock::now() + limit;
            let about = store.about(limit).await;
            let about = match store.require_member(until.remaining()).await {
                Err(error @ Error::Proxied { .. }) => Err(error),
                _ => about,
            };
            let read = match &about {
                Ok(_) => slowest_read(&store, until, &key).await,
                Err(error) => Err(error.clone()),
            };
            let word = match &about {
                Ok(_) => store.word(until.remaining()).await.ok(),
                Err(_) => None,
            };
            let member = CheckedMember {
                endpoint,
                about,
                word,
                read,
            };
            (place, member)
        });
    }
    let answers: BTreeMap<_, _> = asked.join_all().await.into_iter().collect();
    answers.into_values().collect()
}

async fn slowest_read(store: &Store, until: Instant, key: &str) -> Result<Duration, Error> {
    let mut slowest = Duration::ZERO;
    for _ in 0..READS {
        slowest = slowest.max(store.time_read(until.remaining(), key).await?);
    }
    Ok(slowest)
}

impl CheckedMember {
    /// Whether it answers what the daemon would ask.
    pub(super) const fn serves(&self) -> bool {
        self.read.is_ok()
    }

    /// Why it doesn't serve.
    pub(super) fn error(&self) -> Option<&Error> {
        self.read.as_ref().err()
    }

    /// That it is no member at all.
    pub(super) fn proxied(&self) -> Option<&Error> {
        let is_proxy = |error: &&Error| matches!(error, Error::Proxied { .. });
        self.about.as_ref().err().filter(is_proxy)
    }

    fn line(&self) -> String {
        let endpoint = printable(&self.endpoint);
        let about = match &self.about {
            Ok(about) => about,
            Err(Error::Proxied { .. }) => return format!("  {endpoint}: etcd's grpc-proxy"),
            Err(error) => return format!("  {endpoint}: does not answer: {}", told(error)),
        };
        let role = match about.leader {
            0 => "without a leader",
            leader if leader == about.id => "leader",
            _ if about.is_learner => "learner",
            _ => "follower",
        };
        let version = printable(&about.version);
        let connects = format!("connects and answers in {}", millis(about.took));
        let reads = match &self.read {
            Ok(slowest) => format!("reads in {} at most", millis(*slowest)),
            Err(error) => format!("serves no reads: {}", told(error)),
        };
        format!("  {endpoint}: etcd {version}, {role}, {connects}, {reads}")
    }
}

/// What the endpoints say together.
pub(super) fn judge(members: &[CheckedMember]) -> TrustVerdict {
    let words = members.iter().map(|member| {
        let endpoint = member.endpoint.as_str();
        (endpoint, member.word.as_ref())
    });
    trust::judge(&words.collect::<Vec<_>>())
}

/// Those of other clusters than the one that is believed, each with its own.
pub(super) fn strangers(members: &[CheckedMember], believed: u64) -> Vec<(&str, u64)> {
    let words = members
        .iter()
        .filter_map(|member| Some((member.endpoint.as_str(), member.word.as_ref()?.seen.cluster)));
    words
        .filter(|(_, cluster)| ![0, believed].contains(cluster))
        .collect()
}

/// Lines on the members; `attempt` is what one attempt of the daemon has.
pub(super) fn report(config: &Config, members: &[CheckedMember], attempt: Duration) -> Vec<String> {
    let serving = members.iter().filter(|member| member.serves()).count();
    let mut lines = vec![format!(
        "store: {serving} of {} members serve",
        members.len()
    )];
    lines.extend(members.iter().map(CheckedMember::line));
    lines.push(format!(
        "an attempt on a member may take {}",
        millis(attempt)
    ));
    for member in members {
        lines.extend(troubles(member, attempt).map(|trouble| {
            let endpoint = printable(&member.endpoint);
            format!("warning: {endpoint}: {trouble}")
        }));
    }
    lines.extend(of_one_member(members));
    let etcd = &config.etcd;
    let has_users = etcd.username.is_some() || etcd.tls.cert_file.is_some();
    lines.extend(bugs(members, config.election.ttl, has_users));
    lines
}

/// What is wrong with one member.
fn troubles(member: &CheckedMember, attempt: Duration) -> impl Iterator<Item = String> {
    let mut troubles = Vec::new();
    if member.about.is_err() {
        troubles.push("does not answer; the others carry its share".to_owned());
    }
    if let Ok(about) = &member.about {
        if about.is_learner {
            troubles
                .push("is a learner, which serves nobody: take it out of etcd.endpoints".into());
        }
        if about.leader == 0 {
            troubles.push("has no leader: it has lost its way to the other members".to_owned());
        }
        let alarms = about.alarms.iter().map(|alarm| printable(alarm));
        troubles.extend(alarms);
        let slowest = about
            .took
            .max(*member.read.as_ref().unwrap_or(&Duration::ZERO));
        // The same again for a busy hour; R3 takes two failed attempts.
        if slowest * 2 > attempt {
            troubles.push(format!(
                "takes {} where an attempt may take {}: renewals through it will fail; raise \
                 election.ttl, or take it out of etcd.endpoints",
                millis(slowest),
                millis(attempt)
            ));
        }
    }
    troubles.into_iter()
}

/// That endpoints lead to the same member: to lose it is to lose them all.
fn of_one_member(members: &[CheckedMember]) -> Vec<String> {
    let mut by_id = BTreeMap::<_, Vec<_>>::new();
    for member in members {
        if let Ok(about) = &member.about {
            let endpoints = by_id.entry((about.cluster, about.id)).or_default();
            endpoints.push(printable(&member.endpoint));
        }
    }
    let several = by_id.into_values().filter(|endpoints| endpoints.len() > 1);
    several
        .map(|endpoints| format!("warning: {} are one member", endpoints.join(" and ")))
        .collect()
}

/// Known bugs of the versions that answered, those of one version in one place.
fn bugs(members: &[CheckedMember], ttl: Duration, has_users: bool) -> Vec<String> {
    let about = members
        .iter()
        .filter_map(|member| member.about.as_ref().ok());
    let versions: BTreeSet<_> = about.map(|about| about.version.as_str()).collect();
    let mut lines = Vec::new();
    for text in versions {
        let Some(version) = version::read(text) else {
            let text = printable(text);
            lines.push(format!(
                "warning: etcd {text:?} is no version that is known"
            ));
            continue;
        };
        let mut bugs = lease_bugs(&version);
        bugs.extend(permission_bug(&version).filter(|_| has_users));
        lines.extend(
            bugs.iter()
                .map(|bug| format!("warning: etcd {version} {bug}")),
        );
        if revokes_after_a_freeze(&version) {
            let (word, remedy) = if ttl < OUTLASTS_FREEZES {
                (
                    "warning",
                    "; with an election.ttl of 15s it takes a longer freeze",
                )
            } else {
                ("note", "")
            };
            lines.push(format!(
                "{word}: etcd {version} can revoke live leases when a leader of etcd wakes that \
                 was frozen for longer than the TTL; no release is known to be free of it{remedy}"
            ));
        }
    }
    lines
}

/// The error without the endpoint, which stands before it already.
fn told(error: &Error) -> String {
    match error {
        Error::Timeout { limit, .. } => format!("no answer within {}", millis(*limit)),
        Error::Unreachable { reason, .. }
        | Error::Unauthenticated { reason, .. }
        | Error::LoginRefused { reason, .. }
        | Error::Refused { reason, .. } => printable(reason),
        other => printable(&other.to_string()),
    }
}

/// A span as people read it who compare some.
fn millis(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(version: &str, id: u64) -> About {
        About {
            version: version.to_owned(),
            cluster: 7,
            id,
            leader: 1,
            is_learner: false,
            alarms: Vec::new(),
            took: Duration::from_millis(2),
        }
    }

    fn member(endpoint: &str, about: About) -> CheckedMember {
        CheckedMember {
            endpoint: endpoint.to_owned(),
            about: Ok(about),
            word: None,
            read: Ok(Duration::from_millis(1)),
        }
    }

    const Q: Duration = Duration::from_millis(1500);

    #[test]
    fn a_good_member_draws_no_warning() {
        assert_eq!(troubles(&member("a", about("3.6.9", 1)), Q).count(), 0);
    }

    #[test]
    fn a_member_that_takes_half_of_an_attempt_is_too_slow() {
        let mut slow = member("a", about("3.6.9", 1));
        slow.read = Ok(Duration::from_millis(749));
        assert_eq!(troubles(&slow, Q).count(), 0);
        slow.read = Ok(Duration::from_millis(751));
        let said: Vec<_> = troubles(&slow, Q).collect();
        assert!(said[0].starts_with("takes 751.0 ms where"), "{said:?}");
        let mut far = member("a", about("3.6.9", 1));
        far.about.as_mut().unwrap().took = Duration::from_secs(2);
        assert_eq!(troubles(&far, Q).count(), 1);
    }

    #[test]
    fn learners_alarms_and_lost_members_are_named() {
        let learner = About {
            is_learner: true,
            leader: 0,
            alarms: vec!["NOSPACE".to_owned()],
            ..about("3.6.9", 2)
        };
        let said: Vec<_> = troubles(&member("a", learner), Q).collect();
        assert_eq!(said.len(), 3, "{said:?}");
    }

    #[test]
    fn endpoints_of_one_member_are_named() {
        let members = [("a", 1), ("b", 2), ("c", 1)];
        let members = members.map(|(endpoint, id)| member(endpoint, about("3.6.9", id)));
        assert_eq!(of_one_member(&members), ["warning: a and c are one member"]);
    }

    #[test]
    fn the_bugs_of_a_version_are_named_once() {
        let members = ["a", "b"].map(|endpoint| member(endpoint, about("3.4.23", 1)));
        let lines = bugs(&members, Duration::from_secs(15), false);
        assert_eq!(lines.len(), 3, "{lines:?}");
        let with_users = bugs(&members, Duration::from_secs(15), true);
        assert_eq!(with_users.len(), 4, "{with_users:?}");
        assert!(
            lines
                .iter()
                .all(|line| line.starts_with("warning: etcd 3.4.23 "))
        );
    }

    #[test]
    fn frozen_leaders_are_a_warning_where_the_ttl_is_short() {
        let members = [member("a", about("3.6.9", 1))];
        let line = |ttl| bugs(&members, Duration::from_secs(ttl), false).concat();
        assert!(line(14).starts_with("warning: etcd 3.6.9 can revoke"));
        assert!(line(15).starts_with("note: etcd 3.6.9 can revoke"));
    }
}

//! Which cluster is believed, where the configuration names several endpoints (R12).
//!
//! A member that was wiped and started as a cluster of its own answers as readily as the others, and
//! whoever believes it leads beside the leader. So before anything is asked of a store with several
//! endpoints, all of them are asked side by side who they are. A cluster is believed if most of the
//! endpoints speak for it. Where some are silent its own list of members speaks for those: a member
//! that is alone has a list of one.
//!
//! Later on every answer says of which cluster it is, and an error that doesn't is followed by a
//! question that does. A stranger among the endpoints is named, and the next one is asked. Only where
//! the endpoints agree on another cluster than before has the cluster changed. What follows from what
//! they say is [`judge`]'s matter.
//!
//! Of two, one may be away, and the other is believed if it is alone on the list; but not while the
//! one that is silent may yet answer, and only until it contradicts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, MemberListResponse, ResponseHeader};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::member::Member;
use super::{Error, Seen, Store};
use crate::clock::{self, Instant};

mod verdict;

use verdict::disagreement;
pub use verdict::{TrustVerdict, Word, clusters, judge};

/// How long a silent endpoint is waited for where the others don't suffice, at most.
const LONGEST_WAIT: Duration = Duration::from_millis(300);

/// The same where they do, for who wants to hear of every stranger.
const LONGEST_LOOK: Duration = Duration::from_millis(150);

/// How long an endpoint may take to be named as a stranger, once the others are believed.
const LONGEST_PROBE: Duration = Duration::from_secs(5);

/// Before one of two is believed without the other, that is asked again after so long.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// How long an endpoint that may yet say that it leads is waited for.
const LEADER_WAIT: Duration = Duration::from_millis(100);

/// For so long who has said that it leads is asked no other time.
const LEADER_HOLDS: Duration = Duration::from_secs(1);

/// From one time that those who are away are asked to the next.
const PAUSE: Duration = Duration::from_secs(1);

/// What a store knows of its endpoints beyond the cluster that it believes.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// Held while the endpoints are asked.
    pub(super) asking: tokio::sync::Mutex<()>,
    state: std::sync::Mutex<State>,
    told: watch::Sender<LeaderTold>,
}

#[derive(Debug, Default)]
struct State {
    /// Somebody of another cluster has answered since the endpoints were asked last.
    doubt: bool,
    /// Most of the endpoints spoke for the cluster that is believed. Else it is believed only until
    /// another one is heard of.
    sure: bool,
    /// Any stranger is an error, for who asks once.
    unanimous: bool,
    /// Endpoints of other clusters, as they were named.
    strangers: BTreeMap<String, u64>,
}

/// What the endpoints have said of who leads, when they were asked last.
#[derive(Debug, Default)]
struct LeaderTold {
    /// Who leads, and by which answer.
    leader: Option<(Arc<Member>, Seen)>,
    /// Whether some have yet to answer.
    awaited: bool,
    asked: Instant,
}

impl Trust {
    /// For a cluster that somebody else has made sure of.
    pub(super) fn in_known() -> Self {
        let trust = Self::default();
        trust.be_sure();
        trust
    }

    /// Holds on to the cluster that is believed, whoever contradicts.
    pub(super) fn be_sure(&self) {
        self.state().sure = true;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// From now on nothing is asked of endpoints that disagree.
    pub(super) fn ask_for_unanimity(&self) {
        let mut state = self.state();
        state.unanimous = true;
        state.doubt = true;
    }

    /// Has the endpoints asked before the next request.
    pub(super) fn doubt(&self) {
        self.state().doubt = true;
    }

    /// Names a stranger, once.
    fn name(&self, endpoint: &str, cluster: u64, expected: u64) {
        let before = self.state().strangers.insert(endpoint.to_owned(), cluster);
        if before != Some(cluster) {
            tracing::warn!(
                endpoint,
                cluster = format!("{cluster:x}"),
                expected = format!("{expected:x}"),
                "member of another cluster"
            );
        }
    }

    fn forget(&self, endpoint: &str) {
        self.state().strangers.remove(endpoint);
    }

    /// Waits for who says that it leads, if the endpoints have just been asked, and takes it: what was
    /// said grows old.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn take_leader(&self) -> Option<(Arc<Member>, Seen)> {
        let mut told = self.told.subscribe();
        let known = told.wait_for(|told| told.leader.is_some() || !told.awaited);
        // Who is away is waited for by nobody.
        drop(tokio::time::timeout(LEADER_WAIT, known).await);
        let told = self.told.send_replace(LeaderTold::default());
        let is_fresh = clock::now().since(told.asked) < LEADER_HOLDS;
        told.leader.filter(|_| is_fresh)
    }

    fn is_told_to_lead(&self, member: &Arc<Member>) -> bool {
        let told = self.told.borrow();
        let mut leader = told.leader.iter();
        leader.any(|(leader, _)| Arc::ptr_eq(leader, member))
    }
}

impl Store {
    /// Makes sure that it is known which cluster to believe: asks all endpoints where it isn't.
    ///
    /// # Errors
    /// [`Error::Disputed`] if the endpoints don't say; [`Error::ClusterChanged`] if they agree on
    /// another one than before; else as the current member's.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn settle(&self, limit: Duration) -> Result<(), Error> {
        if self.is_settled() {
            return Ok(());
        }
        // Others may be asking, one after another, and each as long as it may.
        let asking = tokio::time::timeout(limit, self.shared.trust.asking.lock()).await;
        let _asking = asking.map_err(|_| Error::Timeout {
            endpoint: self.current().endpoint.clone(),
            limit,
        })?;
        if self.is_settled() {
            return Ok(());
        }
        let known = self.seen().cluster;
        let (unanimous, sure) = {
            let state = self.shared.trust.state();
            (state.unanimous, state.sure)
        };
        let all = self.in_turn();
        let mut survey = Survey::begin(&all);
        let mut verdict = survey.verdict(limit, unanimous).await;
        if known == 0 && matches!(verdict, TrustVerdict::Likely(_)) && !survey.awaits_more() {
            // What was refused for a moment, or was cut off, is asked once more.
            clock::sleep(SECOND_LOOK).await;
            survey = Survey::begin(&all);
            verdict = survey.verdict(limit, unanimous).await;
        }
        if let TrustVerdict::Likely(cluster) = verdict
            && (known != 0 || survey.awaits_more())
            && known != cluster
        {
            verdict = TrustVerdict::Disputed(disagreement(&survey.words()));
        }
        match verdict {
            TrustVerdict::Believed(_) | TrustVerdict::Likely(_)
                if unanimous && clusters(&survey.words()).len() > 1 =>
            {
                let why = disagreement(&survey.words());
                return Err(Error::Disputed(self.wording().of_text(why)));
            }
            TrustVerdict::Believed(cluster) if known != 0 && cluster != known && sure => {
                return Err(Error::ClusterChanged(format!(
                    "most of {} are of cluster {cluster:x} instead of {known:x}",
                    self.wording().of("etcd.endpoints")
                )));
            }
            TrustVerdict::Believed(cluster) | TrustVerdict::Likely(cluster) => {
                self.believe(cluster);
                let mut state = self.shared.trust.state();
                state.doubt = false;
                state.unanimous = false;
                state.sure |= matches!(verdict, TrustVerdict::Believed(_));
                drop(state);
                self.shared
                    .trust
                    .told
                    .send_replace(survey.leader_told(cluster));
                self.go_to_one_of(cluster, &survey);
            }
            // The term that we hold, or the place, is of the cluster that granted it: it goes on
            // with whoever is of it.
            TrustVerdict::Disputed(_) if known != 0 && sure => {}
            TrustVerdict::Silence if known != 0 => {}
            TrustVerdict::Disputed(why) if known != 0 => {
                self.believe(0);
                return Err(Error::ClusterChanged(self.wording().of_text(why)));
            }
            TrustVerdict::Disputed(why) => {
                return Err(Error::Disputed(self.wording().of_text(why)));
            }
            TrustVerdict::Silence => return Err(self.silence(&all, survey, limit)),
        }
        let known = self.seen().cluster;
        survey.name_strangers(self, known);
        survey.go_on(self.clone(), known);
        Ok(())
    }

    /// The cluster that most of the endpoints say now that they are of, whatever is believed; `None`
    /// where they don't say within `limit`.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn cluster_now(&self, limit: Duration) -> Option<u64> {
        let mut survey = Survey::begin(&self.in_turn());
        match survey.verdict(limit, false).await {
            TrustVerdict::Believed(cluster) => Some(cluster),
            TrustVerdict::Likely(_) | TrustVerdict::Disputed(_) | TrustVerdict::Silence => None,
        }
    }

    /// Believes this cluster, of which nothing is known if another one was believed so far; 0 for none.
    fn believe(&self, cluster: u64) {
        let mut seen = self.lock_seen();
        if seen.cluster != 0 && seen.cluster != cluster {
            *seen = Seen::default();
        }
        seen.cluster = cluster;
    }

    pub(super) fn is_settled(&self) -> bool {
        let is_doubted = self.shared.trust.state().doubt;
        self.member_count() == 1 || (self.seen().cluster != 0 && !is_doubted)
    }

    /// Why nobody can be asked, in the words of the current member, which is given up on.
    fn silence(&self, all: &[Arc<Member>], mut survey: Survey, limit: Duration) -> Error {
        let current = &all[0];
        let error = survey.errors.remove(0).unwrap_or_else(|| Error::Timeout {
            endpoint: current.endpoint.clone(),
            limit,
        });
        self.give_up_on(current);
        error
    }

    /// Makes a member of `cluster` the current one, if the current one isn't: the leader, if it has
    /// said so.
    fn go_to_one_of(&self, cluster: u64, survey: &Survey) {
        let of_cluster = |word: &Option<Word>| {
            word.as_ref()
                .is_some_and(|word| word.seen.cluster == cluster)
        };
        if of_cluster(&survey.heard[0]) {
            return;
        }
        let leader = survey.leader_of(cluster).map(|(leader, _)| leader);
        let mut members = survey.members.iter().zip(&survey.heard);
        let other = members.find(|(_, word)| of_cluster(word));
        if let Some(member) = leader.as_ref().or(other.map(|(member, _)| member)) {
            self.go_to(member);
        }
    }

    /// Takes note that `member` is of another cluster than the one that is believed.
    pub(super) fn is_stranger(&self, member: &Member, cluster: u64) -> Error {
        let expected = self.seen().cluster;
        if self.member_count() == 1 {
            return Error::ClusterChanged(format!(
                "cluster {cluster:x} answered instead of {expected:x}"
            ));
        }
        self.shared.trust.name(&member.endpoint, cluster, expected);
        self.shared.trust.doubt();
        Error::Stranger {
            endpoint: member.endpoint.clone(),
            cluster,
            expected,
        }
    }

    /// The error of `member`, unless it is of another cluster and has nothing to say: an error
    /// doesn't tell.
    pub(super) async fn confirmed(&self, member: &Member, error: Error) -> Error {
        let expected = self.seen().cluster;
        if expected == 0 || !error.is_an_answer() {
            return error;
        }
        match member.word().await {
            Ok(word) if word.seen.cluster != 0 && word.seen.cluster != expected => {
                self.is_stranger(member, word.seen.cluster)
            }
            // Not asked again on behalf of its own word.
            Err(silent) if silent.blames_member() && matches!(error, Error::LeaseGone) => silent,
            _ => error,
        }
    }
}

/// All endpoints, asked side by side.
struct Survey {
    members: Vec<Arc<Member>>,
    heard: Vec<Option<Word>>,
    errors: Vec<Option<Error>>,
    begun: Instant,
    asked: JoinSet<(usize, Result<Word, Error>)>,
}

impl Survey {
    fn begin(members: &[Arc<Member>]) -> Self {
        let mut asked = JoinSet::new();
        for (place, member) in members.iter().enumerate() {
            let member = Arc::clone(member);
            asked.spawn(async move {
                let word = tokio::time::timeout(LONGEST_PROBE, member.word()).await;
                let word = word.unwrap_or_else(|_| {
                    Err(Error::Timeout {
                        endpoint: member.endpoint.clone(),
                        limit: LONGEST_PROBE,
                    })
                });
                (place, word)
            });
        }
        Self {
            members: members.to_vec(),
            heard: vec![None; members.len()],
            errors: vec![None; members.len()],
            begun: clock::now(),
            asked,
        }
    }

    /// What follows from what is heard.
    async fn verdict(&mut self, limit: Duration, unanimous: bool) -> TrustVerdict {
        self.hear(limit, unanimous).await;
        let verdict = judge(&self.words());
        let is_open = matches!(verdict, TrustVerdict::Disputed(_) | TrustVerdict::Likely(_));
        if is_open && self.ask_for_lists(limit / 2).await {
            return judge(&self.words());
        }
        verdict
    }

    /// Listens until most members agree, or all have spoken, or it takes too long; a little longer
    /// if `all` are to be heard.
    async fn hear(&mut self, limit: Duration, all: bool) {
        let begun = clock::now();
        let mut wait = limit;
        loop {
            if self.heard.iter().all(Option::is_some) {
                return;
            }
            if self.most_agree() {
                if !all {
                    return;
                }
                wait = wait.min(LONGEST_LOOK.max(clock::now().since(begun)));
            } else if self.heard.iter().any(Option::is_some)
                && !matches!(judge(&self.words()), TrustVerdict::Likely(_))
            {
                wait = wait.min(LONGEST_WAIT);
            }
            let left = (begun + wait).remaining();
            match tokio::time::timeout(left, self.asked.join_next()).await {
                Ok(Some(Ok(answered))) => self.take(answered),
                Ok(Some(Err(_))) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Asks for lists of members where they aren't told to everybody, as later releases of etcd do
    /// with authentication on; returns whether there are any more than before.
    async fn ask_for_lists(&mut self, limit: Duration) -> bool {
        let mut asked = JoinSet::new();
        for (place, word) in self.heard.iter().enumerate() {
            if word.as_ref().is_some_and(|word| word.members == 0) {
                let member = Arc::clone(&self.members[place]);
                let list = async move { member.list(&member.client().await?).await };
                let list = tokio::time::timeout(limit, list);
                asked.spawn(async move { (place, list.await) });
            }
        }
        let mut has_more = false;
        while let Some(answered) = asked.join_next().await {
            if let Ok((place, Ok(Ok(list)))) = answered
                && let Some(word) = &mut self.heard[place]
            {
                word.takes(&list);
                has_more = true;
            }
        }
        has_more
    }

    /// Whether anybody who is silent may yet answer.
    fn awaits_more(&self) -> bool {
        let silent = self.heard.iter().zip(&self.errors);
        let mut errors = silent.filter(|(word, _)| word.is_none());
        errors.any(|(_, error)| matches!(error, None | Some(Error::Timeout { .. })))
    }

    fn take(&mut self, (place, answer): (usize, Result<Word, Error>)) {
        match answer {
            Ok(word) => self.heard[place] = Some(word),
            Err(error) => self.errors[place] = Some(error),
        }
    }

    /// Whether more than half of the endpoints are members of one cluster, each another one.
    fn most_agree(&self) -> bool {
        let heard = self.heard.iter().flatten();
        let members: BTreeSet<_> = heard.map(|word| (word.seen.cluster, word.member)).collect();
        let mut clusters = BTreeMap::<_, usize>::new();
        for (cluster, _) in members {
            *clusters.entry(cluster).or_default() += 1;
        }
        clusters
            .values()
            .any(|members| 2 * members > self.members.len())
    }

    fn words(&self) -> Vec<(&str, Option<&Word>)> {
        let names = self.members.iter().map(|member| member.endpoint.as_str());
        names.zip(self.heard.iter().map(Option::as_ref)).collect()
    }

    /// What is said so far of who leads this cluster.
    fn leader_told(&self, cluster: u64) -> LeaderTold {
        LeaderTold {
            leader: self.leader_of(cluster),
            awaited: !self.asked.is_empty(),
            asked: self.begun,
        }
    }

    /// Who says that it leads this cluster, and by which answer. One that was deposed while it was frozen
    /// may say so, too.
    fn leader_of(&self, cluster: u64) -> Option<(Arc<Member>, Seen)> {
        let heard = self.members.iter().zip(&self.heard);
        let leaders = heard.filter_map(|(member, word)| {
            let word = word.as_ref()?;
            let leads = word.seen.cluster == cluster && word.member == word.leader;
            leads.then(|| (Arc::clone(member), word.seen))
        });
        leaders.max_by_key(|(_, seen)| seen.raft_term)
    }

    fn name_strangers(&self, store: &Store, known: u64) {
        for (endpoint, word) in self.words() {
            let Some(word) = word else { continue };
            match word.seen.cluster {
                0 => {}
                cluster if cluster == known => store.shared.trust.forget(endpoint),
                cluster => store.shared.trust.name(endpoint, cluster, known),
            }
        }
    }

    /// Hears the others out, so that a stranger among them is named, and leaves them; where it isn't
    /// sure whom to believe, those who are away are asked until they answer.
    fn go_on(mut self, store: Store, known: u64) {
        tokio::spawn(async move {
            loop {
                while let Some(answered) = self.asked.join_next().await {
                    if let Ok(answered) = answered {
                        self.take(answered);
                    }
                    store.shared.trust.told.send_if_modified(|told| {
                        // Nobody has taken what was told.
                        let is_open = told.awaited;
                        if is_open {
                            *told = self.leader_told(known);
                        }
                        is_open
                    });
                }
                self.name_strangers(&store, known);
                let trust = &store.shared.trust;
                if trust.state().sure || store.seen().cluster != known {
                    break;
                }
                match judge(&self.words()) {
                    TrustVerdict::Likely(_) | TrustVerdict::Silence => {}
                    TrustVerdict::Believed(cluster) if cluster == known => {
                        trust.be_sure();
                        break;
                    }
                    TrustVerdict::Believed(_) | TrustVerdict::Disputed(_) => {
                        trust.doubt();
                        break;
                    }
                }
                clock::sleep(PAUSE).await;
                if !store.has(&self.members[0]) {
                    break;
                }
                self.asked = Self::begin(&self.members).asked;
            }
            let current = store.current();
            for member in self.members {
                // Who wants to go to the leader need not connect anew.
                if !Arc::ptr_eq(&member, &current) && !store.shared.trust.is_told_to_lead(&member) {
                    member.disconnect();
                }
            }
        });
    }
}

impl Member {
    /// What it says of itself, which it answers without the others.
    ///
    /// Without logging in, where that will do. The caller bounds it.
    pub(super) async fn word(&self) -> Result<Word, Error> {
        let ask = async |client: Client| {
            let (mut maintenance, mut cluster) =
                (client.maintenance_client(), client.cluster_client());
            let (status, list) = tokio::join!(maintenance.status(), cluster.member_list());
            Ok((status?, list.ok()))
        };
        let (status, list) = self.ask_of_itself(ask).await?;
        let header = status.header();
        let mut word = Word {
            seen: header.map(Seen::from).unwrap_or_default(),
            member: header.map_or(0, ResponseHeader::member_id),
            leader: status.leader(),
            ..Word::default()
        };
        if let Some(list) = list {
            word.takes(&list);
        }
        Ok(word)
    }

    /// The same with its list of members, logging in for that if need be.
    pub(super) async fn full_word(&self) -> Result<Word, Error> {
        let mut word = self.word().await?;
        if word.members == 0
            && let Ok(list) = self.list(&self.client().await?).await
        {
            word.takes(&list);
        }
        Ok(word)
    }

    async fn list(&self, client: &Client) -> Result<MemberListResponse, Error> {
        let list = client.cluster_client().member_list().await;
        list.map_err(|error| self.classify(&error))
    }
}

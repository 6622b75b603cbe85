//! What was thrown, how often, how long hand-overs took, and what broke.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::checker::{self, After, Breach, Evidence, Verdict};
use crate::common::record::Life;
use crate::elections::SEVERAL;
use crate::judge::Judged;
use crate::prompt;

/// How long after a fault's beginning a job's end is put down to it.
const EFFECT: u64 = 12_000_000_000;

/// What a run was.
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) minutes: f64,
    pub(crate) excepted: bool,
    pub(crate) skipped: Option<String>,
    pub(crate) begun: u64,
    /// The version of etcd, as its members tell it.
    pub(crate) etcd: String,
}

/// Milliseconds without a job, sorted.
type Spans = Vec<f64>;

fn millis(nanos: u64) -> f64 {
    std::time::Duration::from_nanos(nanos).as_secs_f64() * 1e3
}

/// From the last sign of one term's job to the first of the next, by what ended the term. (Of a job
/// that is stopped, the last sign comes long before its end.)
pub(crate) fn handovers(evidence: &Evidence) -> BTreeMap<String, Spans> {
    let terms: Vec<_> = prompt::terms(evidence).into_values().collect();
    let mut spans: BTreeMap<String, Spans> = BTreeMap::new();
    for pair in terms.windows(2) {
        // Nobody knows when it ended.
        if pair[0].hung {
            continue;
        }
        let span = millis(pair[1].start.saturating_sub(pair[0].last));
        spans
            .entry(cause(evidence, &pair[0], &pair[1]))
            .or_default()
            .push(span);
    }
    for spans in spans.values_mut() {
        spans.sort_by(f64::total_cmp);
    }
    spans
}

/// The last fault that hit this term's replica, or else the store, before its job ended.
fn cause(evidence: &Evidence, term: &Life, next: &Life) -> String {
    // Without a quorum nobody can follow, whatever ended the term.
    let quorum = evidence.thrown.iter().find(|fault| {
        fault.name.starts_with("quorum") && fault.from < next.start && term.last < fault.to
    });
    if let Some(quorum) = quorum {
        return quorum.name.clone();
    }
    if term.run < 0 {
        return "etcdctl elect resigned".into();
    }
    let named = |token: i64| {
        let mut all = evidence.candidates.iter();
        all.find(|c| c.token == token).map(|c| &c.name)
    };
    let replica = named(term.token);
    // The last sign is up to one beat before the end.
    let end = term.last + 20_000_000;
    let hit = |own: bool| {
        let faults = evidence.thrown.iter().filter(move |fault| {
            let at = if own {
                fault.replica.as_ref() == replica
            } else {
                fault.replica.is_none()
            };
            at && fault.from <= end && end - fault.from < EFFECT
        });
        faults.max_by_key(|fault| fault.from)
    };
    let Some(found) = hit(true).or_else(|| hit(false)) else {
        return "something else".into();
    };
    // What needs no waiting by itself says nothing of what else went on.
    let concerned: Vec<_> = [replica, named(next.token)].into_iter().flatten().collect();
    let alone = prompt::is_quiet(evidence, &concerned, found.from, next.start, Some(found));
    match found.after {
        After::Leaves | After::EndsTerm if !alone || next.run < 0 => "several faults".into(),
        _ => found.name.clone(),
    }
}

fn at(sorted: &[f64], share: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a short list"
    )]
    let place = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[place]
}

fn counted(evidence: &Evidence) -> BTreeMap<(bool, &str), usize> {
    let mut counted = BTreeMap::new();
    for fault in &evidence.thrown {
        *counted
            .entry((fault.excepted, fault.name.as_str()))
            .or_default() += 1;
    }
    counted
}

/// Prints it, and writes the same to a file in `target` that no other seed or version of etcd has.
pub(crate) fn publish(run: &Run, evidence: &Evidence, judged: &Judged) {
    let (slots, verdict) = (&judged.slots[0], &judged.verdict);
    let handovers = handovers(evidence);
    println!(
        "\netcd {}, seed {}, {} minutes: thrown {} faults",
        run.etcd,
        run.seed,
        run.minutes,
        evidence.thrown.len()
    );
    for ((excepted, name), n) in counted(evidence) {
        let class = if excepted { "  (excepted)" } else { "" };
        println!("{n:6}  {name}{class}");
    }
    if let Some(why) = &run.skipped {
        println!("SKIPPED: full disks: {why}");
    }
    println!("\nhand-overs, ms from the last sign of a job to the first of the next");
    println!(
        "{:32}{:>6}{:>10}{:>10}{:>10}",
        "after", "n", "median", "p95", "worst"
    );
    for (name, spans) in &handovers {
        let (n, median) = (spans.len(), at(spans, 0.5));
        let (p95, worst) = (at(spans, 0.95), at(spans, 1.0));
        println!("{name:32}{n:6}{median:10.1}{p95:10.1}{worst:10.1}");
    }
    println!("the store was slow {} times", evidence.lulls.len());
    let heals = healed(evidence);
    println!("\nafter the last fault of a storm somebody led within, ms: {heals:.0?}");
    let (runs, counts) = (checker::runs(&evidence.lives).len(), evidence.counts.len());
    let terms = evidence.lives.iter().map(|life| life.token);
    let terms = terms.collect::<std::collections::BTreeSet<_>>().len();
    println!("{terms} terms, {runs} runs, {counts} guarded writes accepted");
    println!("the scheduled job: {}", slots.policy);
    println!(
        "{} slots came, {} runs of them, {} completed themselves; in the records: {:?}",
        slots.came(),
        slots.starts.len(),
        slots.completed(),
        slots.results()
    );
    let late = evidence.refused_late();
    println!("{late} writes refused of those who outlived their terms");
    for (what, spans) in timed(verdict) {
        if !spans.is_empty() {
            let (median, worst) = (at(&spans, 0.5), at(&spans, 1.0));
            let n = spans.len();
            println!("{what}, nothing else beside: {n}, median {median:.1} ms, worst {worst:.1}");
        }
    }
    tell_several(judged);
    println!(
        "{} breaches; {} overlaps in the excepted class",
        verdict.breaches.len(),
        verdict.excepted.len()
    );
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/target");
    let file = format!("{target}/torture-{}-{}.json", run.etcd, run.seed);
    let text = serde_json::to_string_pretty(&as_json(run, evidence, judged)).unwrap();
    std::fs::write(file, text + "\n").unwrap();
}

/// Prints how much was seen of the daemons with several jobs.
fn tell_several(judged: &Judged) {
    let (slots, beside) = (&judged.slots[1], judged.beside);
    for (of, own) in SEVERAL.iter().zip(&judged.others[1..]) {
        let terms = prompt::terms(own).len();
        let (runs, counts) = (checker::runs(&own.lives).len(), own.counts.len());
        println!("{of:?}: {terms} terms, {runs} runs, {counts} guarded writes accepted");
    }
    println!("its slots: {}: {:?}", slots.policy, slots.results());
    println!("{beside} stands beside a fault of another job's, and of nothing else");
}

/// What the checker timed, for hand-overs that must wait for no TTL.
fn timed(verdict: &Verdict) -> [(&'static str, Spans); 2] {
    let sorted = |spans: &[u64]| {
        let mut spans: Spans = spans.iter().map(|span| millis(*span)).collect();
        spans.sort_by(f64::total_cmp);
        spans
    };
    [
        ("job's end to key's end", sorted(&verdict.given_back)),
        ("key's end to next job", sorted(&verdict.followed)),
    ]
}

fn healed(evidence: &Evidence) -> Spans {
    let led = evidence
        .heals
        .iter()
        .filter_map(|heal| Some((heal.at, heal.led?)));
    led.map(|(at, led)| millis(led.saturating_sub(at)))
        .collect()
}

fn as_json(run: &Run, evidence: &Evidence, judged: &Judged) -> Value {
    let (slots, verdict) = (&judged.slots[0], &judged.verdict);
    let several = judged.others[1..].iter();
    let terms: usize = several.map(|own| prompt::terms(own).len()).sum();
    let thrown: Vec<_> = counted(evidence)
        .into_iter()
        .map(|((excepted, name), n)| json!({"fault": name, "excepted": excepted, "n": n}))
        .collect();
    let spans: Vec<_> = handovers(evidence)
        .iter()
        .map(|(name, spans)| {
            json!({"after": name, "n": spans.len(), "median_ms": at(spans, 0.5),
                   "p95_ms": at(spans, 0.95), "worst_ms": at(spans, 1.0), "all_ms": spans})
        })
        .collect();
    let broken = |breaches: &[Breach]| -> Vec<_> {
        let shown = breaches.iter();
        shown
            .map(|b| json!({"rule": b.rule, "at_ns": b.at, "what": b.what}))
            .collect()
    };
    json!({
        "etcd": run.etcd, "seed": run.seed, "minutes": run.minutes, "excepted_faults": run.excepted,
        "skipped": run.skipped, "thrown": thrown, "handovers": spans,
        "led_after_heal_ms": healed(evidence),
        "late_writes_refused": evidence.refused_late(), "timed_ms": timed(verdict),
        "runs": checker::runs(&evidence.lives).len(), "writes": evidence.counts.len(),
        "schedule": slots.policy.to_string(), "slots": slots.came(),
        "slot_runs": slots.starts.len(), "slot_results": slots.results(),
        "slots_completed": slots.completed(),
        "terms_of_several": terms, "stands_beside": judged.beside,
        "breaches": broken(&verdict.breaches), "excepted": broken(&verdict.excepted),
    })
}

/// Tells of all that is broken, and panics if anything is.
pub(crate) fn assert_unbroken(
    run: &Run,
    evidence: &Evidence,
    others: &[Evidence],
    verdict: &Verdict,
) {
    for excused in &verdict.excepted {
        println!("\nexcepted: {}\n    {}", excused.rule, excused.what);
    }
    for breach in &verdict.breaches {
        println!("\nBROKEN: {}\n    {}", breach.rule, breach.what);
    }
    let Some(first) = verdict.breaches.iter().min_by_key(|breach| breach.at) else {
        return;
    };
    let mut all = evidence.clone();
    for other in others {
        all.lives.extend(other.lives.iter().cloned());
        all.candidates.extend(other.candidates.iter().cloned());
    }
    println!("\nseconds from the beginning, around the first:");
    println!("{}", timeline(run, &all, first));
    let n = verdict.breaches.len();
    panic!("{n} breaches with seed {}", run.seed);
}

/// The last seconds before a breach, and a moment after: faults, runs and terms as they came.
fn timeline(run: &Run, evidence: &Evidence, breach: &Breach) -> String {
    const BEFORE: u64 = 10_000_000_000;
    const AFTER: u64 = 1_000_000_000;
    let mut lines: Vec<(u64, String)> = Vec::new();
    for fault in &evidence.thrown {
        let whom = fault.replica.as_deref().unwrap_or("store");
        lines.push((fault.from, format!("{whom}: {} begins", fault.name)));
        lines.push((fault.to, format!("{whom}: {} ends", fault.name)));
    }
    for lull in &evidence.lulls {
        lines.push((lull.from, "the store is slow".into()));
        lines.push((lull.to, "the store is no more slow".into()));
    }
    for job in checker::runs(&evidence.lives) {
        let named = evidence.candidates.iter().find(|c| c.token == job.token);
        let whose = named.map_or("?", |c| c.name.as_str());
        lines.push((
            job.start,
            format!("{whose}: run {} starts, token {}", job.run, job.token),
        ));
        lines.push((
            job.last,
            format!("{whose}: run {} gives its last sign", job.run),
        ));
    }
    for heal in &evidence.heals {
        lines.push((heal.at, "all faults are over".into()));
    }
    let last = lines.iter().map(|(at, _)| *at).max().unwrap_or(0);
    let moment = breach.at.min(last);
    lines.retain(|(at, _)| moment.saturating_sub(BEFORE) <= *at && *at <= moment + AFTER);
    lines.sort();
    let shown = lines.iter().map(|(at, what)| {
        let seconds = millis(at.saturating_sub(run.begun)) / 1e3;
        format!("{seconds:10.4}  {what}\n")
    });
    shown.collect()
}

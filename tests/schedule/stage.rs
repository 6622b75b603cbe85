//! A cluster, a job that keeps a journal, and the schedule's records.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::common::daemon::Builder;
use crate::common::*;

/// Where a run is asked for, and that is answered.
pub(crate) const TRIGGER: &str = "/election.meta/control/trigger";

/// A job with a schedule, whose runs are written down.
pub(crate) struct Stage {
    pub(crate) scene: Scene,
    journal: PathBuf,
}

/// A run, as the job itself wrote it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) token: i64,
    pub(crate) slot: String,
    pub(crate) attempt: u32,
    pub(crate) missed: u64,
    pub(crate) last_success: Option<String>,
    /// Whether it came to its end.
    pub(crate) ended: bool,
}

impl Stage {
    /// A cluster of one member, and nothing run yet.
    pub(crate) fn new() -> Self {
        let scene = Scene::start(1);
        Self::of(scene)
    }

    /// The same in an election that no other test has: daemons kill what bears the variables of a term of
    /// their own and has no guardian, as a command has that a test starts in a job's place.
    pub(crate) fn apart() -> Self {
        let scene = Scene::start(1);
        let folder = scene.cluster.sandbox().join("");
        let name = folder.file_name().unwrap().to_str().unwrap();
        let election = format!("/{name}");
        Self::of(scene.in_election(&election))
    }

    fn of(scene: Scene) -> Self {
        let journal = scene.cluster.sandbox().join("journal");
        Self { scene, journal }
    }

    /// The election's prefix.
    pub(crate) fn election(&self) -> &str {
        self.scene.election()
    }

    /// A replica whose job writes its start down, does `body`, and writes its end down; `schedule` is
    /// TOML for `job.schedule`.
    pub(crate) fn daemon(&self, name: &str, body: &str, schedule: &str) -> Builder {
        let journal = self.journal.display();
        let script = format!(
            "echo start $INCUMBENT_TOKEN $INCUMBENT_SLOT $INCUMBENT_ATTEMPT $INCUMBENT_MISSED \
             ${{INCUMBENT_LAST_SUCCESS:-none}} >>{journal}; {body}; code=$?; \
             echo end $INCUMBENT_TOKEN $INCUMBENT_SLOT $INCUMBENT_ATTEMPT >>{journal}; exit $code"
        );
        Daemon::builder(&self.scene.cluster, name)
            .prefix(self.election())
            .job(&["sh", "-c", &script])
            .toml(&format!("job.schedule = {{ {schedule} }}"))
    }

    /// All runs so far, in order.
    #[track_caller]
    pub(crate) fn runs(&self) -> Vec<Started> {
        let text = fs::read_to_string(&self.journal).unwrap_or_default();
        let mut runs: Vec<Started> = Vec::new();
        for line in text.lines() {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["start", token, slot, attempt, missed, last] => runs.push(Started {
                    token: token.parse().unwrap(),
                    slot: slot.to_owned(),
                    attempt: attempt.parse().unwrap(),
                    missed: missed.parse().unwrap(),
                    last_success: (last != "none").then(|| last.to_owned()),
                    ended: false,
                }),
                // Two at once would end in another order.
                ["end", token, slot, _] => {
                    let last = runs.last_mut().expect("a run ends that began");
                    assert_eq!(
                        (last.token.to_string().as_str(), &*last.slot),
                        (token, slot)
                    );
                    assert!(!last.ended, "{text}");
                    last.ended = true;
                }
                _ => panic!("{line:?} in the journal"),
            }
        }
        runs
    }

    /// Asks for a run now, as an operator does.
    #[track_caller]
    pub(crate) fn trigger(&self) {
        let wish = r#"{"by":"test","since":"2027-01-01T00:00:00Z"}"#;
        let key = format!("{}.meta/control/trigger", self.election());
        self.scene.cluster.put(&key, wish);
    }

    /// Waits until so many runs have begun; returns all.
    #[track_caller]
    pub(crate) fn wait_runs(&self, n: usize) -> Vec<Started> {
        eventually(SOON, &format!("{n} runs have begun"), || {
            let runs = self.runs();
            if runs.len() >= n { Ok(runs) } else { Err(runs) }
        })
    }

    /// The schedule's state, as it is stored.
    #[track_caller]
    pub(crate) fn state(&self) -> Option<Value> {
        let key = format!("{}.meta/schedule", self.election());
        let text = self.scene.cluster.get(&key)?;
        Some(serde_json::from_str(&text).unwrap())
    }

    /// Waits until the stored state is as wanted; returns it.
    #[track_caller]
    pub(crate) fn wait_state(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(SOON, what, || {
            let state = self.state();
            state.filter(|state| wanted(state)).ok_or(self.state())
        })
    }

    /// All records of runs that are kept, oldest first.
    #[track_caller]
    pub(crate) fn records(&self) -> Vec<Value> {
        let seq = self
            .state()
            .map_or(0, |state| state["seq"].as_u64().unwrap());
        let runs = format!("{}.meta/runs", self.election());
        let keys = (1..=seq).map(|seq| format!("{runs}/{seq:016}"));
        let found = keys.filter_map(|key| self.scene.cluster.get(&key));
        found
            .map(|text| serde_json::from_str(&text).unwrap())
            .collect()
    }

    /// Waits for a record of a run that has this result; returns it.
    #[track_caller]
    pub(crate) fn wait_result(&self, result: &str) -> Value {
        eventually(SOON, &format!("a run is recorded as {result}"), || {
            let records = self.records();
            let mut found = records.clone().into_iter();
            found
                .find(|record| record["result"] == result)
                .ok_or(records)
        })
    }

    /// Waits for a second run, and checks that it is the first one's slot again.
    #[track_caller]
    pub(crate) fn assert_run_again(&self) {
        let runs = self.wait_runs(2);
        assert_eq!((&runs[1].slot, runs[1].attempt), (&runs[0].slot, 2));
        self.assert_in_order();
    }

    /// Waits for a second run, and checks that it is of a later slot; returns all runs.
    #[track_caller]
    pub(crate) fn assert_run_on(&self) -> Vec<Started> {
        let runs = self.wait_runs(2);
        assert!(runs[1].slot > runs[0].slot, "{runs:?}");
        runs
    }

    /// Checks what holds under any policy: no slot was run twice but as another attempt, and slots
    /// and tokens never fall.
    #[track_caller]
    pub(crate) fn assert_in_order(&self) {
        let runs = self.runs();
        for (before, after) in runs.iter().zip(runs.iter().skip(1)) {
            assert!(before.token <= after.token, "{before:?} {after:?}");
            if before.slot == after.slot {
                assert!(before.attempt < after.attempt, "{before:?} {after:?}");
            } else if before.slot != "manual" && after.slot != "manual" {
                assert!(before.slot < after.slot, "{before:?} {after:?}");
            }
        }
    }
}

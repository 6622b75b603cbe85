//! The shipped `config/incumbent.toml`, written from the table of keys.

use super::keys::{KEYS, Preset};

const HEAD: &str = "\
# The configuration of incumbent: every key, with its default. A line like #key = value shows how
# a key is written whose default is none, or depends on something; [job.schedule], without which a
# job runs all the time, is written so as a whole.
#
# Stronger than this file are variables, INCUMBENT__ELECTION__TTL=15s for election.ttl, and flags.
# Relative paths count from this file's directory. Durations have a unit: 500ms, 15s, 2m.
# Several jobs have a table [jobs.NAME] each in place of [job], with [jobs.NAME.schedule] and the like.
# \"incumbent check\" tells what is wrong, and what the settings come to.
";

/// The text of the file.
pub fn text() -> String {
    let mut parts = vec![HEAD.to_owned()];
    let mut current = "";
    for key in KEYS {
        let (section, name) = key.split();
        if section != current {
            parts.push(format!("\n[{section}]"));
            current = section;
        }
        let comment = match key.preset {
            Preset::Constant(_) => "",
            Preset::Depends(_) | Preset::Within(_) => "#",
        };
        let example = key.preset.example();
        parts.push(format!("# {}\n{comment}{name} = {example}", key.doc));
    }
    parts.join("\n") + "\n"
}

//! The config file of a daemon under test.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

/// Merges TOML text into a config; what is set already is replaced.
pub fn merge(config: &mut toml::Table, text: &str) {
    fn into(old: &mut toml::Table, new: toml::Table) {
        for (key, value) in new {
            match (old.get_mut(&key), value) {
                (Some(toml::Value::Table(old)), toml::Value::Table(new)) => into(old, new),
                (_, value) => {
                    old.insert(key, value);
                }
            }
        }
    }
    let new = text
        .parse()
        .unwrap_or_else(|error| panic!("the test's own config: {error}\n{text}"));
    into(config, new);
}

/// Replaces the file in one step, as an editor or a deployment would; it stays its owner's.
pub fn write(file: &Path, config: &toml::Table) {
    let new = file.with_extension("new");
    fs::write(&new, toml::to_string(config).unwrap()).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    if let Ok(old) = fs::metadata(file)
        && rustix::process::geteuid().is_root()
    {
        chown(&new, Some(old.uid()), Some(old.gid())).unwrap();
    }
    fs::rename(&new, file).unwrap();
}

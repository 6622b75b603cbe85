//! The source of both packages, for tests of what it says and how it is laid out.

use std::fs;
use std::path::{Path, PathBuf};

/// Every file of the daemon and of the election, by the path of its module, with its text. The rooms
/// behind the election's interface stand beside those of the daemon, as they are named there.
pub fn sources() -> Vec<(PathBuf, String)> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let election = here.join("crates/election/src");
    let rooms = election.join("internals");
    let mut found = under(&here.join("src"), None);
    found.extend(under(&rooms, None));
    found.extend(under(&election, Some(&rooms)));
    found
}

/// Every file under `root` and not under `except`.
fn under(root: &Path, except: Option<&Path>) -> Vec<(PathBuf, String)> {
    let (mut open, mut found) = (vec![root.to_owned()], Vec::new());
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.extend((Some(&*path) != except).then_some(path));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root).unwrap().to_owned(), text));
            }
        }
    }
    found
}

//! Elections within others, whose keys block those.

use crate::etcd::{Patience, Store};
use crate::keys::Prefix;

/// The election that the one under `prefix` is nested in, if there is one, as far as it can be read: who
/// may not read there can't tell, and is none of that election's.
pub(super) async fn outer_election(
    store: &Store,
    prefix: &Prefix,
    patience: &Patience,
) -> Option<Prefix> {
    for outer in outer(prefix) {
        // Of its terms, and of its candidates: below the records of several jobs' hosts there is none.
        for records in [outer.ended(), outer.term(), outer.members()] {
            let read = async |limit| store.has_any(limit, &records).await;
            if patience.ask(read).await.unwrap_or(false) {
                return Some(outer);
            }
        }
    }
    None
}

/// The prefixes that `prefix` would be nested in.
fn outer(prefix: &Prefix) -> Vec<Prefix> {
    let text = prefix.as_str();
    let slashes = text.match_indices('/').map(|(at, _)| &text[..at]);
    let outer = slashes.filter(|outer| !outer.is_empty());
    outer.map(Prefix::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_election_is_nested_in_every_prefix_that_ends_at_a_slash() {
        let outer = outer(&Prefix::new("/a/b/c"));
        assert_eq!(outer, ["/a", "/a/b"].map(Prefix::new));
        assert_eq!(super::outer(&Prefix::new("/a")), []);
        assert_eq!(super::outer(&Prefix::new("a/b")), [Prefix::new("a")]);
    }
}

//! Who is to follow a leader that is asked to step down, and whether that can be.

use tokio::task::AbortHandle;

use super::decide::words::{Asked, Found};
use crate::election::successor::{SuccessorWish, look};
use crate::etcd::Store;
use crate::keys::Prefix;

/// The look that is under way: there is one at a time.
#[derive(Debug, Default)]
pub(super) struct SuccessorLook(Option<AbortHandle>);

impl SuccessorLook {
    /// Looks as asked now, no more as asked before, and tells what is found.
    pub(super) fn begin(
        &mut self,
        store: Store,
        prefix: Prefix,
        asked: Asked,
        tell: impl FnOnce(Found) + Send + 'static,
    ) {
        let Asked {
            token,
            to,
            force,
            limit,
            ..
        } = asked;
        let wish = SuccessorWish {
            token,
            to,
            force,
            limit,
        };
        let look = tokio::spawn(async move { tell(look(&store, &prefix, &wish).await) });
        if let Some(earlier) = self.0.replace(look.abort_handle()) {
            earlier.abort();
        }
    }
}

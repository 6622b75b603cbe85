//! How far a term is, as its candidacy tells it to whoever holds it.

use tokio::sync::watch;

use super::Ending;
use crate::session::Loss;

/// How far a term is; it only goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It goes on.
    Leading,
    /// The work is to end.
    Ending(Ending),
    /// The work has to be gone.
    Over(Ending),
}

impl Stage {
    pub(super) const fn ending(&self) -> Option<&Ending> {
        match self {
            Self::Leading => None,
            Self::Ending(ending) | Self::Over(ending) => Some(ending),
        }
    }
}

/// Waits until the work is to end.
pub(super) async fn ending(stage: &mut watch::Receiver<Stage>) -> Ending {
    match stage.wait_for(|stage| stage.ending().is_some()).await {
        Ok(stage) => stage.ending().cloned().unwrap_or(Ending::Stopping),
        // Whoever told it is gone, and with it the renewals.
        Err(_) => Ending::Lost(Loss::Closed),
    }
}

/// Waits until the work has to be gone.
pub(super) async fn over(stage: &mut watch::Receiver<Stage>) {
    let over = |stage: &Stage| matches!(stage, Stage::Over(_));
    // As above.
    drop(stage.wait_for(over).await);
}

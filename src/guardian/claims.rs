//! What fell to this process when a guardian died, by who fences it: nobody else's to kill or to wait for.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::proc::Process;

/// Each child, and the number of the dead guardian whose it was.
static CLAIMS: OnceLock<Mutex<HashMap<Process, i32>>> = OnceLock::new();

/// Whether another than `guardian` has claimed this child.
pub(super) fn is_claimed(child: Process, guardian: Option<i32>) -> bool {
    let claims = claims();
    claims.get(&child).is_some_and(|of| Some(*of) != guardian)
}

/// Claims it, unless another has.
pub(super) fn claim(child: Process, guardian: i32) {
    claims().entry(child).or_insert(guardian);
}

/// What was this guardian's is gone.
pub(super) fn give_up(guardian: i32) {
    claims().retain(|_, of| *of != guardian);
}

fn claims() -> MutexGuard<'static, HashMap<Process, i32>> {
    let claims = CLAIMS.get_or_init(Mutex::default);
    claims.lock().unwrap_or_else(PoisonError::into_inner)
}

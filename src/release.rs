//! The unit's stop hook: fences what a term left behind, then resigns.

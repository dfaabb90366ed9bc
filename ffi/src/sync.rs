//! What gate, life and signal are made of; their model check puts other things in their place.

pub(crate) use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Counts of a gate; more threads than these share some.
pub(crate) const STRIPE_LEN: usize = 16;

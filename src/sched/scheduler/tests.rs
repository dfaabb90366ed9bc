//! The state machine driven by hand: life of a request, refusals, failures, cancelling, draining.

//! Throughput of the ring.
fn main() {}

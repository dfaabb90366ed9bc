//! The C interface, `ffi/twinstream.h`: the header is the contract, this is its other side.
//!
//! Invariant: nothing leaves an exported function but a status: panics are caught, pointers are
//! checked for NULL, engines and requests are looked up by handle and never dereferenced. Refuses
//! to know how requests are served; everything here is done with the library's public interface.
//! Rust programs use the library itself: this package has nothing for them.

#![cfg(all(unix, target_pointer_width = "64"))]

mod boundary;
mod calls;
mod completions;
mod gate;
mod held;
mod layout;
mod life;
mod logging;
mod many;
mod open;
mod registry;
mod requests;
mod signal;
mod status;
mod sync;
#[cfg(test)]
mod tests;
mod timing;

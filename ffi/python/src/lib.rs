//! The Python interface: the extension module below the package `twinstream`.
//!
//! Invariant: nothing but the library's public interface is used, and its scheduling thread never
//! waits for the interpreter. Knows neither how requests are served nor how images are decoded.

mod answer;
mod arguments;
mod blocking;
mod engine;
mod errors;
mod images;
mod inbox;
mod lease;
mod logging;
mod many;
mod opening;
mod simulation;
mod stats;
mod ticket;

/// What `twinstream` is built on.
#[pyo3::pymodule(gil_used = true)]
mod _twinstream {
    #[pymodule_export]
    use crate::answer::Answer;
    #[pymodule_export]
    use crate::engine::Engine;
    #[pymodule_export]
    use crate::images::Pixels;
    #[pymodule_export]
    use crate::inbox::Inbox;
    #[pymodule_export]
    use crate::lease::Lease;
    #[pymodule_export]
    use crate::simulation::{plan_rates, simulate};
    #[pymodule_export]
    use crate::ticket::Ticket;

    #[pymodule_init]
    fn init() {
        crate::logging::start();
    }
}

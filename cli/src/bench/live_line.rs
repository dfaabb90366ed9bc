//! The line that tells how a run goes, on a terminal.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use twinstream::engine::Engine;

/// Time between two looks: a person reads no faster.
const LOOK: Duration = Duration::from_millis(250);

/// Does `work` while a line on stderr shows what the engine does; no line where that is no
/// terminal.
pub(super) fn show<R>(
    engine: &Engine,
    title: &str,
    duration_ns: u64,
    work: impl FnOnce() -> R,
) -> R {
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {msg}").expect("it is valid");
    let bar = ProgressBar::new(duration_ns / 1_000_000).with_style(style);
    bar.set_prefix(title.to_owned());
    if bar.is_hidden() {
        return work();
    }
    let is_over = AtomicBool::new(false);
    let start = Instant::now();
    thread::scope(|scope| {
        let line = scope.spawn(|| {
            // Relaxed: the flag orders nothing.
            while !is_over.load(Ordering::Relaxed) {
                let stats = engine.stats();
                let quantile_ms = |quantile| stats.latency.quantile_ns(quantile) as f64 * 1e-6;
                bar.set_position(start.elapsed().as_millis() as u64);
                bar.set_message(format!(
                    "{} answered, {} open, p50 {:.2} ms, p99 {:.2} ms",
                    stats.completed,
                    stats.alive_len,
                    quantile_ms(0.5),
                    quantile_ms(0.99),
                ));
                thread::park_timeout(LOOK);
            }
            bar.finish_and_clear();
        });
        let result = work();
        is_over.store(true, Ordering::Relaxed);
        line.thread().unpark();
        result
    })
}

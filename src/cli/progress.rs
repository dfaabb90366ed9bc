//! Progress bars on standard error, seen only when it is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `step_len` steps.
pub(crate) fn bar(step_len: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:16} {bar:40} {pos}/{len} {elapsed}")
        .expect("the template is well-formed");
    // indicatif draws nothing when standard error is not a terminal.
    ProgressBar::new(step_len as u64).with_style(style)
}

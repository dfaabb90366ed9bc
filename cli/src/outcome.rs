//! How a subcommand ended, as seen from the shell.

use std::io;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{is_terminal, print_usage, tell};

/// The end of `--help`; the codes are those of [`Outcome`] and [`exit_code`].
pub const EXIT_CODES_HELP: &str = "\
Exit status:
  0  every input was answered
  1  the work could not be done
  2  wrong usage
  3  some inputs failed, the others were answered";

/// A subcommand's work, done as far as possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    AllAnswered,
    SomeFailed,
}

impl Outcome {
    /// `failed_len` of `inputs_len` inputs could not be answered.
    ///
    /// # Errors
    /// When none was answered.
    pub fn of(failed_len: usize, inputs_len: usize) -> anyhow::Result<Self> {
        match failed_len {
            0 => Ok(Self::AllAnswered),
            _ if failed_len < inputs_len => Ok(Self::SomeFailed),
            _ => anyhow::bail!("no image could be read"),
        }
    }
}

/// Options that contradict each other: what, and what would be right.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Says what went wrong, if anything did, on stderr.
pub fn exit_code(outcome: anyhow::Result<Outcome>) -> ExitCode {
    match outcome {
        Ok(Outcome::AllAnswered) => ExitCode::SUCCESS,
        Ok(Outcome::SomeFailed) => ExitCode::from(3),
        // Whoever read our output (`| head`) has enough of it: that is no failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            tell(format_args!("error: {}", message(&error)));
            let is_argument = |error: &twinstream::Error| error.is_argument();
            let usage = error.is::<Usage>() || error.downcast_ref().is_some_and(is_argument);
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

/// Prints what the parser of the command line says: help that was asked for, or wrong usage.
pub fn usage_code(usage: &clap::Error) -> ExitCode {
    match print_usage(usage) {
        Ok(()) => ExitCode::from(if usage.use_stderr() { 2 } else { 0 }),
        Err(error) => exit_code(Err(error.into())),
    }
}

/// The error and its causes, down to the library's: its messages tell their own causes.
pub fn message(error: &anyhow::Error) -> String {
    let mut messages = Vec::new();
    for cause in error.chain() {
        messages.push(cause.to_string());
        if cause.is::<twinstream::Error>() {
            break;
        }
    }
    messages.join(": ")
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref()
            .is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// A bar on stderr that counts to `inputs_len`; hidden where stderr is no terminal, or where the
/// results themselves (`prints_results`) go to the same terminal.
pub fn progress_bar(inputs_len: usize, prints_results: bool) -> ProgressBar {
    if prints_results && is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {per_sec} {eta}")
        .expect("the template is valid");
    ProgressBar::new(inputs_len as u64).with_style(style)
}

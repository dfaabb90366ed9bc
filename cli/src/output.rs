//! The one way of the subcommands to stdout, stderr and the log.
//!
//! Invariant: nothing here panics. What stdout does not take is an error, since results are lost;
//! what stderr does not take is dropped, since there is nobody left to tell.

use std::fmt::Display;
use std::io::{self, IsTerminal, StdoutLock, Write};

use log::{Level, Record};

/// The variable that says how much is logged.
const LOG_VARIABLE: &str = "RUST_LOG";

/// What is logged where the variable says nothing.
const LOG_DEFAULT: &str = "warn";

/// Stdout, line by line; its errors name it.
pub struct Stdout(StdoutLock<'static>);

/// Stdout, locked.
pub fn stdout() -> Stdout {
    Stdout(io::stdout().lock())
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(named)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(named)
    }
}

/// The kind stays: a closed pipe is told by it.
fn named(error: io::Error) -> io::Error {
    // Callers write again after an interruption, so it stays as it is.
    match error.kind() {
        io::ErrorKind::Interrupted => error,
        kind => io::Error::new(kind, format!("cannot write to stdout: {error}")),
    }
}

/// Whether results go to a terminal.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Prints a line of results.
pub fn print(line: &str) -> io::Result<()> {
    writeln!(stdout(), "{line}")
}

/// Tells a line on stderr, as one write.
pub fn tell(line: impl Display) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Prints what the parser of the command line says: help on stdout, wrong usage on stderr.
pub fn print_usage(message: &clap::Error) -> io::Result<()> {
    let is_printed = message.print().and_then(|()| io::stdout().flush());
    if message.use_stderr() { Ok(()) } else { is_printed.map_err(named) }
}

/// Sends what the library logs to stderr.
pub fn start_log() {
    let given = std::env::var(LOG_VARIABLE).ok();
    // The logger's own parser panics over a wrong filter where stderr takes nothing.
    let filter = given.as_deref().unwrap_or(LOG_DEFAULT);
    let is_valid = env_filter::Builder::new().try_parse(filter).map(|_| ());
    let mut logger = env_logger::Builder::new();
    logger.parse_filters(if is_valid.is_ok() { filter } else { LOG_DEFAULT });
    logger.format(write_record).init();
    if let Err(error) = is_valid {
        tell(format_args!("warning: {LOG_VARIABLE}: {error}; \"{LOG_DEFAULT}\" holds"));
    }
}

/// Warnings and errors as the command's own; the rest, for those who look closely, with its origin.
fn write_record(output: &mut env_logger::fmt::Formatter, record: &Record<'_>) -> io::Result<()> {
    let message = record.args();
    match record.level() {
        Level::Error => writeln!(output, "error: {message}"),
        Level::Warn => writeln!(output, "warning: {message}"),
        level => {
            let time = output.timestamp_millis();
            writeln!(output, "[{time} {level} {}] {message}", record.target())
        }
    }
}

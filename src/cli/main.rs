//! The `twinstream` command: one module a subcommand, on the library's public interface alone.

mod charts;
mod experiment;
mod html;
mod inspect;
mod plan;
mod progress;
mod simulate;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit status when every input was answered.
const EXIT_OK: u8 = 0;
/// Exit status when the command could not do its work. (clap exits with 2 on wrong usage.)
const EXIT_FAILED: u8 = 1;

#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Experiment(experiment::Args),
    Inspect(inspect::Args),
    Plan(plan::Args),
    Simulate(simulate::Args),
}

fn main() -> ExitCode {
    env_logger::init();
    let outcome = match Cli::parse().command {
        Command::Experiment(args) => experiment::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Simulate(args) => simulate::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::from(EXIT_OK),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

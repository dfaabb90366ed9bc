//! The `twinstream` command: one module a subcommand, on the library's public interface alone.

mod bench;
mod charts;
mod classify;
mod computer;
mod evaluate;
mod experiment;
mod files;
mod folders;
#[cfg(feature = "cuda")]
mod gpu_plan;
mod html;
mod inspect;
mod live;
mod options;
mod outcome;
mod output;
mod plan;
#[cfg(feature = "cuda")]
mod profile;
mod reader;
mod simulate;
mod table;
#[cfg(feature = "cuda")]
mod tune;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use outcome::{EXIT_CODES_HELP, Outcome, exit_code, usage_code};

#[derive(Parser)]
#[command(version, about, max_term_width = 100, after_help = EXIT_CODES_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(after_help = EXIT_CODES_HELP)]
    Bench(bench::Args),
    #[command(after_help = EXIT_CODES_HELP)]
    Classify(classify::Options),
    #[command(after_help = EXIT_CODES_HELP)]
    Evaluate(evaluate::Options),
    #[command(after_help = EXIT_CODES_HELP)]
    Experiment(experiment::Args),
    #[command(after_help = EXIT_CODES_HELP)]
    Inspect(inspect::Options),
    #[command(after_help = EXIT_CODES_HELP)]
    Plan(plan::Args),
    #[command(after_help = EXIT_CODES_HELP)]
    Simulate(simulate::Args),
    #[cfg(feature = "cuda")]
    #[command(after_help = EXIT_CODES_HELP)]
    Profile(profile::Options),
    #[cfg(feature = "cuda")]
    #[command(after_help = EXIT_CODES_HELP)]
    Tune(tune::Options),
}

fn main() -> ExitCode {
    output::start_log();
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(message) => return usage_code(&message),
    };
    exit_code(match command {
        Command::Bench(options) => bench::run(&options).map(|()| Outcome::AllAnswered),
        Command::Classify(options) => classify::run(&options),
        Command::Evaluate(options) => evaluate::run(&options),
        Command::Experiment(options) => experiment::run(&options).map(|()| Outcome::AllAnswered),
        Command::Inspect(options) => inspect::run(&options),
        Command::Plan(options) => plan::run(&options).map(|()| Outcome::AllAnswered),
        Command::Simulate(options) => simulate::run(&options).map(|()| Outcome::AllAnswered),
        #[cfg(feature = "cuda")]
        Command::Profile(options) => profile::run(&options),
        #[cfg(feature = "cuda")]
        Command::Tune(options) => tune::run(&options),
    })
}

//! The `twinstream` command: one module a subcommand, on the library's public interface alone.

mod backend;
mod bench;
mod calibrate;
mod charts;
mod classify;
mod completions;
mod computer;
mod evaluate;
mod experiment;
mod files;
mod folders;
#[cfg(feature = "cuda")]
mod gpu_plan;
mod html;
mod inspect;
mod labelled;
mod live;
mod long_bar;
mod options;
mod outcome;
mod output;
mod plan;
#[cfg(feature = "cuda")]
mod profile;
#[cfg(feature = "cuda")]
mod prove;
mod reader;
#[cfg(feature = "serve")]
mod serve;
mod simulate;
mod table;
#[cfg(feature = "cuda")]
mod tune;
mod version;
mod words;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use outcome::{EXIT_CODES_HELP, Outcome, exit_code, usage_code};

#[derive(Parser)]
#[command(
    name = "twinstream",
    about = "ResNet-50 inference at the lowest latency the hardware allows, at every load, with \
             nothing to tune",
    max_term_width = 100,
    after_help = EXIT_CODES_HELP,
    args_conflicts_with_subcommands = true,
    arg_required_else_help = true
)]
struct Cli {
    /// Print the version
    #[arg(short = 'V', long)]
    version: bool,
    /// With --version: commit, target, features and the vector instructions in use as well
    #[arg(short, long, requires = "version")]
    verbose: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    #[command(after_help = EXIT_CODES_HELP)]
    Bench(bench::Args),
    #[command(after_help = EXIT_CODES_HELP)]
    Calibrate(calibrate::Options),
    #[command(after_help = EXIT_CODES_HELP)]
    Classify(classify::Options),
    #[command(after_help = EXIT_CODES_HELP)]
    Completions(completions::Options),
    #[command(after_help = EXIT_CODES_HELP)]
    Evaluate(evaluate::Options),
    #[command(after_help = EXIT_CODES_HELP)]
    Experiment(experiment::Args),
    #[command(after_help = EXIT_CODES_HELP)]
    Inspect(inspect::Options),
    #[command(after_help = EXIT_CODES_HELP)]
    Man(completions::ManOptions),
    #[command(after_help = EXIT_CODES_HELP)]
    Plan(plan::Args),
    #[cfg(feature = "serve")]
    #[command(after_help = EXIT_CODES_HELP)]
    Serve(serve::Options),
    #[command(after_help = EXIT_CODES_HELP)]
    Simulate(simulate::Args),
    #[cfg(feature = "cuda")]
    #[command(after_help = EXIT_CODES_HELP)]
    Profile(profile::Options),
    #[cfg(feature = "cuda")]
    #[command(after_help = EXIT_CODES_HELP)]
    Prove(prove::Options),
    #[cfg(feature = "cuda")]
    #[command(name = prove::FAMILY_COMMAND, hide = true)]
    ProveFamily(prove::FamilyOptions),
    #[cfg(feature = "cuda")]
    #[command(after_help = EXIT_CODES_HELP)]
    Tune(tune::Options),
    #[cfg(not(feature = "cuda"))]
    #[command(hide = true, disable_help_flag = true)]
    Profile(Absent),
    #[cfg(not(feature = "cuda"))]
    #[command(hide = true, disable_help_flag = true)]
    Prove(Absent),
    #[cfg(not(feature = "cuda"))]
    #[command(hide = true, disable_help_flag = true)]
    Tune(Absent),
    #[cfg(not(feature = "serve"))]
    #[command(hide = true, disable_help_flag = true)]
    Serve(Absent),
}

/// Whatever is given to a command that this build does not have.
#[cfg(not(all(feature = "cuda", feature = "serve")))]
#[derive(clap::Args)]
struct Absent {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _arguments: Vec<std::ffi::OsString>,
}

fn main() -> ExitCode {
    output::start_log();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => return usage_code(&message),
    };
    let Some(command) = cli.command else {
        return exit_code(version::print(cli.verbose).map(|()| Outcome::AllAnswered));
    };
    exit_code(match command {
        Command::Bench(options) => bench::run(&options).map(|()| Outcome::AllAnswered),
        Command::Calibrate(options) => calibrate::run(&options),
        Command::Classify(options) => classify::run(&options),
        Command::Completions(options) => {
            completions::run(&options, &mut Cli::command()).map(|()| Outcome::AllAnswered)
        }
        Command::Evaluate(options) => evaluate::run(&options),
        Command::Experiment(options) => experiment::run(&options).map(|()| Outcome::AllAnswered),
        Command::Inspect(options) => inspect::run(&options),
        Command::Man(options) => {
            completions::write_man(&options, Cli::command()).map(|()| Outcome::AllAnswered)
        }
        Command::Plan(options) => plan::run(&options).map(|()| Outcome::AllAnswered),
        #[cfg(feature = "serve")]
        Command::Serve(options) => serve::run(&options).map(|()| Outcome::AllAnswered),
        #[cfg(not(feature = "serve"))]
        Command::Serve(_) => {
            Err(anyhow::anyhow!("serve: this build has no server: build with --features serve"))
        }
        Command::Simulate(options) => simulate::run(&options).map(|()| Outcome::AllAnswered),
        #[cfg(feature = "cuda")]
        Command::Profile(options) => profile::run(&options),
        #[cfg(feature = "cuda")]
        Command::Prove(options) => prove::run(&options),
        #[cfg(feature = "cuda")]
        Command::ProveFamily(options) => prove::run_family(&options),
        #[cfg(feature = "cuda")]
        Command::Tune(options) => tune::run(&options),
        #[cfg(not(feature = "cuda"))]
        Command::Profile(_) => Err(anyhow::anyhow!("profile: {}", options::NO_GPU)),
        #[cfg(not(feature = "cuda"))]
        Command::Prove(_) => Err(anyhow::anyhow!("prove: {}", options::NO_GPU)),
        #[cfg(not(feature = "cuda"))]
        Command::Tune(_) => Err(anyhow::anyhow!("tune: {}", options::NO_GPU)),
    })
}

//! `twinstream completions` and `twinstream man`: what shells and `man` know of the command line,
//! made from the command line's own description.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap_complete::Shell;

use crate::output::stdout;

/// Print completions for a shell
///
/// bash: twinstream completions bash > ~/.local/share/bash-completion/completions/twinstream
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which shell
    shell: Shell,
}

/// Write the man pages, one for each subcommand
///
/// twinstream man ~/.local/share/man/man1, then: man twinstream-simulate
#[derive(clap::Args)]
pub(crate) struct ManOptions {
    /// Folder to write to; made if it isn't there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub(crate) fn run(options: &Options, command: &mut clap::Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, command, "twinstream", &mut script);
    Ok(stdout().write_all(&script)?)
}

pub(crate) fn write_man(options: &ManOptions, command: clap::Command) -> anyhow::Result<()> {
    let folder = &options.folder;
    let cannot = || format!("cannot write man pages to {}", folder.display());
    fs::create_dir_all(folder).with_context(cannot)?;
    let command = command.version(env!("CARGO_PKG_VERSION")).disable_version_flag(true);
    clap_mangen::generate_to(command, folder).with_context(cannot)
}

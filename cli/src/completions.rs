//! `twinstream completions` and `twinstream man`: what shells and `man` know of the command line,
//! made from the command line's own description.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::output::stdout;

const VERSION: &str = env!("CARGO_PKG_VERSION");

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
    let mut command = command.version(VERSION).disable_version_flag(true);
    command = command.disable_help_subcommand(true);
    command.build();
    let subcommands = command.get_subcommands().filter(|command| !command.is_hide_set());
    for command in subcommands.chain([&command]) {
        let man = Man::new(command.clone())
            .source(format!("twinstream {VERSION}"))
            .manual("Twinstream Manual");
        let path = folder.join(man.get_filename());
        fs::write(path, page(&man, command)?).with_context(cannot)?;
    }
    Ok(())
}

/// A man page. What stands below the options is laid out already: it is not filled.
fn page(man: &Man, command: &clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(notes) = command.get_after_long_help().or(command.get_after_help()) {
        let mut section = Roff::new();
        section.control("SH", ["NOTES"]).control("nf", []);
        for line in notes.to_string().lines() {
            section.text([roman(line)]);
        }
        section.control("fi", []).to_writer(&mut page)?;
    }
    Ok(page)
}

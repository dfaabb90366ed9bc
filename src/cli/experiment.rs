//! `twinstream experiment`: the paper's figures and more, as CSV, charts and one report.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::builder::PossibleValuesParser;
use indicatif::ProgressBar;
use serde_json::{Map, Value};
use twinstream::sim::experiment::{self, Figure, Progress, Scale};

use crate::files::{points_csv, table_csv, write};
use crate::outcome::progress_bar;
use crate::{charts, html, table};

/// Every experiment, one after the other.
const ALL: &str = "all";

/// Run an experiment in virtual time and write its CSV, its chart and a report.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which experiment.
    #[arg(value_parser = names())]
    name: String,
    /// Folder to write to; made if it isn't there.
    #[arg(long)]
    out: PathBuf,
    /// Requests of the longest runs.
    #[arg(long, default_value_t = Scale::default().request_len,
        value_parser = clap::value_parser!(u64).range(1_000..))]
    requests: u64,
    /// Seed of arrivals and device noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the key figures as one JSON object a row instead of a line an experiment.
    #[arg(long)]
    json: bool,
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(std::iter::once(ALL).chain(experiment::names()))
}

struct Bar(ProgressBar);

impl Progress for Bar {
    fn announce(&self, step_len: usize) {
        self.0.inc_length(step_len as u64);
    }

    fn step(&self) {
        self.0.inc(1);
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let scale = Scale { seed: args.seed, request_len: args.requests };
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let names: Vec<&str> =
        experiment::names().filter(|name| args.name == ALL || args.name == *name).collect();
    let bar = Bar(progress_bar(0, false));
    let mut figures = Vec::new();
    for name in names {
        let figure = experiment::run(name, &scale, &bar).context("the experiment is gone")?;
        let svg = charts::svg(&figure)?;
        write(&args.out.join(format!("{name}.svg")), &svg)?;
        write(&args.out.join(format!("{name}.csv")), &points_csv(&figure))?;
        write(&args.out.join(format!("{name}-figures.csv")), &table_csv(&figure.table))?;
        figures.push((figure, svg));
    }
    bar.0.finish_and_clear();
    let report = args.out.join("report.html");
    write(&report, &html::report(&figures, &scale))?;
    for (figure, _) in &figures {
        if args.json {
            print_rows(figure, args.seed)?;
        } else {
            table::print(&format!("{}: {}\n  {}\n", figure.name, figure.title, figure.caption))?;
        }
    }
    if !args.json {
        table::print(&format!("report: {}", report.display()))?;
    }
    Ok(())
}

fn print_rows(figure: &Figure, seed: u64) -> anyhow::Result<()> {
    for row in &figure.table.rows {
        let mut object = Map::new();
        object.insert("experiment".into(), figure.name.into());
        object.insert("seed".into(), seed.into());
        for (column, value) in figure.table.columns.iter().zip(row) {
            object.insert((*column).into(), value.clone());
        }
        table::print(&serde_json::to_string(&Value::Object(object))?)?;
    }
    Ok(())
}

//! `twinstream experiment`: the paper's figures and more, as CSV, charts and one report.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::builder::PossibleValuesParser;
use indicatif::ProgressBar;
use serde_json::{Map, Value};
use twinstream::sim::experiment::{self, Figure, Live, LiveScale, Progress, Scale};
use twinstream::sim::words;

use crate::files::{points_csv, table_csv, write};
use crate::html::Preface;
use crate::live::{BackendWords, LiveWorld, OpenOptions};
use crate::outcome::{Usage, progress_bar};
use crate::{charts, html, table};

/// Every experiment, one after the other.
const ALL: &str = "all";

/// Run an experiment and write its CSV, its chart and a report: in virtual time, or live.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which experiment.
    #[arg(value_parser = names())]
    name: String,
    /// Folder to write to; made if it isn't there.
    #[arg(long)]
    out: PathBuf,
    /// Requests of the longest runs in virtual time.
    #[arg(long, conflicts_with = "backend", default_value_t = Scale::default().request_len,
        value_parser = clap::value_parser!(u64).range(1_000..))]
    requests: u64,
    /// Seed of arrivals and device noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run the paper's experiments in real time on this backend (cpu, cuda or sim:DEVICE), beside
    /// what the simulator predicts.
    #[arg(long, value_name = "BACKEND")]
    backend: Option<BackendWords>,
    #[command(flatten)]
    open: OpenOptions,
    /// In real time: how long each point of a curve is measured.
    #[arg(long, default_value = "6s", value_parser = words::duration_ns, requires = "backend")]
    point: f64,
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
    check(args)?;
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let bar = Bar(progress_bar(0, false));
    let (found, preface) = match &args.backend {
        None => in_virtual_time(args, &bar),
        Some(backend) => in_real_time(args, backend, &bar)?,
    };
    bar.0.finish_and_clear();
    let mut figures = Vec::new();
    for figure in found {
        let (name, svg) = (figure.name, charts::svg(&figure)?);
        write(&args.out.join(format!("{name}.svg")), &svg)?;
        write(&args.out.join(format!("{name}.csv")), &points_csv(&figure))?;
        write(&args.out.join(format!("{name}-figures.csv")), &table_csv(&figure.table))?;
        figures.push((figure, svg));
    }
    let report = args.out.join("report.html");
    write(&report, &html::report(&figures, &preface))?;
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

/// Refuses what has no real time to be run in, before anything is written.
fn check(args: &Args) -> Result<(), Usage> {
    args.open.check(args.backend.as_ref())?;
    let is_live = args.name == ALL || experiment::live_names().any(|name| name == args.name);
    match &args.backend {
        Some(BackendWords::Null) => Err(Usage(
            "--backend null takes no time, so there is nothing to predict; use cpu, cuda \
             or sim:DEVICE"
                .to_owned(),
        )),
        Some(_) if !is_live => {
            let known: Vec<&str> = experiment::live_names().collect();
            let (name, known) = (&args.name, known.join(", "));
            Err(Usage(format!("{name} runs in virtual time alone; with --backend: {known}")))
        }
        _ => Ok(()),
    }
}

fn in_virtual_time(args: &Args, bar: &Bar) -> (Vec<Figure>, Preface) {
    let scale = Scale { seed: args.seed, request_len: args.requests };
    let names = experiment::names().filter(|name| args.name == ALL || args.name == *name);
    let figures = names.filter_map(|name| experiment::run(name, &scale, bar)).collect();
    let preface = Preface {
        title: "Twinstream: experiments in virtual time".to_owned(),
        text: format!(
            "Everything here is simulated: the scheduler is the one that serves, the devices and \
             arrivals are models. Latency counts from the scheduled arrival to the result on the \
             host. Dashed lines are bounds or references. Version {}, seed {}, {} requests a point \
             at most.",
            env!("CARGO_PKG_VERSION"),
            scale.seed,
            scale.request_len,
        ),
    };
    (figures, preface)
}

fn in_real_time(
    args: &Args,
    backend: &BackendWords,
    bar: &Bar,
) -> anyhow::Result<(Vec<Figure>, Preface)> {
    let scale = LiveScale { seed: args.seed, point_s: args.point * 1e-9 };
    let world = LiveWorld::new(args.open.open(backend)?, args.seed)?;
    let mut figures = Vec::new();
    for name in experiment::live_names().filter(|name| args.name == ALL || args.name == *name) {
        let figure = experiment::run_live(name, &world, &scale, bar).context("it is gone")?;
        figures.push(figure.map_err(anyhow::Error::from_boxed)?);
    }
    let preface = Preface {
        title: format!("Twinstream: the paper's experiments on {}", world.name()),
        text: format!(
            "Measured in real time on this machine, beside what the simulator predicts for the \
             same arrivals, seed and limits. Latency counts from the moment a request was due to \
             its answer. Version {}, seed {}, {} s a point of a curve.",
            env!("CARGO_PKG_VERSION"),
            scale.seed,
            scale.point_s,
        ),
    };
    Ok((figures, preface))
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

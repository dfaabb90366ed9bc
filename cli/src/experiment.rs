//! `twinstream experiment`: the paper's figures and more, as CSV, charts and one report.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::builder::PossibleValuesParser;
use serde_json::{Map, Value};
use twinstream::BUILD_INFO;
use twinstream::backend::{BackendSpec, BackendSpecs};
use twinstream::sim::experiment::{self, Figure, LiveScale, Scale};
use twinstream::sim::words;

use crate::files::{points_csv, replace, table_csv};
use crate::html::{Preface, Section};
use crate::live::{LiveWorld, OpenOptions, warn_if_late};
use crate::long_bar::LongBar;
use crate::outcome::Usage;
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
    /// Requests of a point at most, in virtual time; some experiments take a share of them for each
    /// run, as their captions say, and concurrency-latency has runs of 200 s.
    #[arg(long, conflicts_with = "backend", default_value_t = Scale::default().request_len,
        value_parser = clap::value_parser!(u64).range(1_000..))]
    requests: u64,
    /// Seed of arrivals and device noise.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run the paper's experiments in real time on this backend (cpu, cuda or sim:DEVICE), beside
    /// what the simulator predicts.
    #[arg(long, value_name = "BACKEND")]
    backend: Option<BackendSpec>,
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

/// Runs the experiments, one after the other; what is finished is on disk and printed before the
/// next one starts.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    check(args)?;
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    match &args.backend {
        None => in_virtual_time(args),
        Some(backend) => in_real_time(args, backend),
    }
}

/// What a run has come to.
struct Session<'a> {
    args: &'a Args,
    /// What is to be run, in order.
    names: Vec<&'static str>,
    preface: Preface,
    sections: Vec<Section>,
    bar: LongBar,
}

impl<'a> Session<'a> {
    fn new(args: &'a Args, preface: Preface, names: impl Iterator<Item = &'static str>) -> Self {
        let names: Vec<_> = names.filter(|name| args.name == ALL || args.name == *name).collect();
        let costs = names.iter().map(|name| cost(name, args));
        let bar = LongBar::new(names.iter().copied().zip(costs).collect());
        Self { args, names, preface, sections: Vec::new(), bar }
    }

    fn run(
        mut self,
        experiment: impl Fn(&str, &LongBar) -> anyhow::Result<Figure>,
    ) -> anyhow::Result<()> {
        for index in 0..self.names.len() {
            self.bar.start(index);
            let figure = experiment(self.names[index], &self.bar)?;
            let written = self.write(&figure);
            self.bar.end(|| {
                warn_of_late(&figure);
                written.and_then(|()| self.print(&figure))
            })?;
        }
        self.bar.clear();
        if !self.args.json {
            table::print(&format!("report: {}", self.report_path().display()))?;
        }
        Ok(())
    }

    fn report_path(&self) -> PathBuf {
        self.args.out.join("report.html")
    }

    /// Writes an experiment's files, and the report on all that are finished.
    fn write(&mut self, figure: &Figure) -> anyhow::Result<()> {
        let path = |end: &str| self.args.out.join(format!("{}{end}", figure.name));
        replace(&path(".svg"), &charts::svg(figure)?)?;
        replace(&path(".csv"), points_csv(figure))?;
        replace(&path("-figures.csv"), table_csv(&figure.table))?;
        self.sections.push(Section::new(figure)?);
        let missing = &self.names[self.sections.len()..];
        replace(&self.report_path(), html::report(&self.sections, missing, &self.preface))
    }

    fn print(&self, figure: &Figure) -> anyhow::Result<()> {
        if self.args.json {
            return print_rows(figure, self.args.seed);
        }
        let Figure { name, title, setting, caption, .. } = figure;
        table::print(&format!("{name}: {title} ({setting})\n  {caption}\n"))?;
        Ok(())
    }
}

/// How long an experiment takes beside the others: measured for those in virtual time, in tenths of
/// a second; those in real time take as long as their arrivals.
fn cost(name: &str, args: &Args) -> u64 {
    let is_live = args.backend.is_some();
    match name {
        "changing" if is_live => 240,
        "increasing" | "decreasing" if is_live => 160,
        "peak-clipping" if is_live => 70,
        "concurrency-latency" if is_live => (27.0 * args.point * 1e-8).ceil() as u64,
        "concurrency-latency" => 150,
        "load-latency" => 550,
        "overload" => 50,
        "closed-loop" => 10,
        "tuned-peers" => 240,
        "robustness" => 170,
        "gauntlet" => 250,
        "network" => 300,
        "fleet" => 600,
        _ => 1,
    }
}

/// How this report came to be, as far as all have it in common.
fn facts() -> Vec<(&'static str, String)> {
    vec![
        ("Command", shell_line(std::env::args_os().skip(1))),
        ("Commit", BUILD_INFO.commit.unwrap_or("unknown").to_owned()),
        ("Version", BUILD_INFO.version.to_owned()),
        ("Started", jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC").to_string()),
    ]
}

/// The command as a shell takes it.
fn shell_line(arguments: impl Iterator<Item = OsString>) -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_./:=,%+@".contains(letter);
    let mut line = "twinstream".to_owned();
    for argument in arguments {
        let argument = argument.to_string_lossy();
        match !argument.is_empty() && argument.chars().all(is_plain) {
            true => line += &format!(" {argument}"),
            false => line += &format!(" '{}'", argument.replace('\'', r"'\''")),
        }
    }
    line
}

/// Refuses what has no real time to be run in, before anything is written.
fn check(args: &Args) -> Result<(), Usage> {
    args.open.check(args.backend.clone().map(BackendSpecs::from).as_ref())?;
    let is_live = args.name == ALL || experiment::live_names().any(|name| name == args.name);
    match &args.backend {
        Some(BackendSpec::Null) => Err(Usage(
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

fn in_virtual_time(args: &Args) -> anyhow::Result<()> {
    let scale = Scale { seed: args.seed, request_len: args.requests };
    let preface = Preface {
        title: "Twinstream: experiments in virtual time".to_owned(),
        text: format!(
            "Everything here is simulated: the scheduler is the one that serves, the devices and \
             arrivals are models. Latency counts from the scheduled arrival to the result on the \
             host. Dashed lines are bounds or references. Seed {}, {} requests a point at most, \
             but for concurrency-latency, which has runs of 200 s.",
            scale.seed, scale.request_len,
        ),
        facts: facts(),
    };
    Session::new(args, preface, experiment::names())
        .run(|name, bar| experiment::run(name, &scale, bar).context("it is gone"))
}

fn in_real_time(args: &Args, backend: &BackendSpec) -> anyhow::Result<()> {
    let scale = LiveScale { seed: args.seed, point_s: args.point * 1e-9 };
    let world = LiveWorld::new(args.open.open(backend.clone().into())?, args.seed)?;
    let preface = Preface {
        title: format!("Twinstream: the paper's experiments on {}", world.backend()),
        text: format!(
            "Measured in real time on this machine, beside what the simulator predicts for the \
             same arrivals, seed and limits. Latency counts from the moment a request was due to \
             its answer. Seed {}, {} s a point of a curve.",
            scale.seed, scale.point_s,
        ),
        facts: facts(),
    };
    Session::new(args, preface, experiment::live_names()).run(|name, bar| {
        let figure = experiment::run_live(name, &world, &scale, bar).context("it is gone")?;
        figure.map_err(anyhow::Error::from_boxed)
    })
}

/// Says of which runs in real time the generator may have moved the figures.
fn warn_of_late(figure: &Figure) {
    let Figure { name, table, .. } = figure;
    let column = |name: &str| table.columns.iter().position(|column| *column == name);
    let (Some(late), Some(mean)) = (column("late_p99_ms"), column("mean_ms")) else { return };
    let rate = column("rate_hz");
    for row in &table.rows {
        let number = |index: usize| row[index].as_f64().unwrap_or(0.0);
        let policy = row[0].as_str().unwrap_or_default();
        let rate = rate.map(|rate| format!(", {}/s", table::round(number(rate))));
        let run = format!("{name}, {policy}{}", rate.unwrap_or_default());
        warn_if_late(&run, number(late), number(mean));
    }
}

fn print_rows(figure: &Figure, seed: u64) -> anyhow::Result<()> {
    for row in &figure.table.rows {
        let mut object = Map::new();
        object.insert("experiment".into(), figure.name.into());
        object.insert("seed".into(), seed.into());
        for (column, value) in figure.table.columns.iter().zip(row) {
            object.insert((*column).into(), value.clone());
        }
        table::print(&table::json(&Value::Object(object))?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_written_as_a_shell_takes_it() {
        let line = |words: &[&str]| shell_line(words.iter().map(OsString::from));
        assert_eq!(
            line(&["experiment", "all", "--out", "a b"]),
            "twinstream experiment all --out 'a b'"
        );
        assert_eq!(line(&["it's", ""]), r"twinstream 'it'\''s' ''");
    }
}

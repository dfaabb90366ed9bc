//! Words that several subcommands take: policies, arrivals, a latency bound; and the help on them.
//!
//! Knows nothing of what is done with them. The help comes from the tables that the library reads
//! the words by.

use std::str::FromStr;

use twinstream::sched::{Parameter, PolicyError, PolicySpec};
use twinstream::sim::arrivals::{self, Workload};
use twinstream::sim::device::{self, DeviceSpec};
use twinstream::sim::network;
use twinstream::sim::plan::DEVICE_LEN_MAX;

use crate::outcome::{EXIT_CODES_HELP, Usage};

/// Policies to compare.
#[derive(Clone)]
pub(crate) struct Policies(pub(crate) Vec<PolicySpec>);

impl FromStr for Policies {
    type Err = PolicyError;

    fn from_str(words: &str) -> Result<Self, PolicyError> {
        PolicySpec::list(words).map(Self)
    }
}

/// A workload and the words for it.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals {
    pub(crate) words: String,
    pub(crate) workload: Workload,
}

impl FromStr for Arrivals {
    type Err = twinstream::Error;

    fn from_str(words: &str) -> Result<Self, Self::Err> {
        Ok(Self { words: words.to_owned(), workload: words.parse()? })
    }
}

/// A count of devices behind one queue.
pub(crate) fn device_count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=DEVICE_LEN_MAX).contains(count));
    count.ok_or_else(|| format!("write a whole number of devices from 1 to {DEVICE_LEN_MAX}"))
}

/// Devices that are alike, in words.
pub(crate) fn place(device: &str, device_len: usize) -> String {
    match device_len {
        1 => device.to_owned(),
        len => format!("{len} x {device}"),
    }
}

/// Refuses a bound that an image misses even where nothing else is to be done.
pub(crate) fn check_bound(bound_ns: Option<f64>, alone_ns: f64, device: &str) -> Result<(), Usage> {
    match bound_ns {
        Some(bound_ns) if bound_ns < alone_ns => Err(Usage(format!(
            "--latency-bound is {} ms, but one image alone takes {} ms on {device}; allow more",
            milliseconds(bound_ns),
            milliseconds(alone_ns),
        ))),
        _ => Ok(()),
    }
}

/// To the microsecond at least, so that two that differ look different.
fn milliseconds(ns: f64) -> f64 {
    crate::table::round(ns * 1e-6)
}

/// The end of `--help` where policies, devices and arrivals are given.
pub(crate) fn help_with_arrivals() -> String {
    let arrivals = section("Arrivals:", arrivals::WORDS);
    [policies_help(), devices_help(), arrivals, EXIT_CODES_HELP.to_owned()].join("\n\n")
}

/// The same with networks in place of arrivals.
pub(crate) fn help_with_networks() -> String {
    [policies_help(), devices_help(), networks_help(), EXIT_CODES_HELP.to_owned()].join("\n\n")
}

/// The same with both.
pub(crate) fn help_with_arrivals_and_networks() -> String {
    let arrivals = section("Arrivals:", arrivals::WORDS);
    let sections = [policies_help(), devices_help(), arrivals, networks_help()];
    [sections.join("\n\n"), EXIT_CODES_HELP.to_owned()].join("\n\n")
}

fn networks_help() -> String {
    section("Networks, items separated by commas:", network::ITEMS)
}

fn policies_help() -> String {
    let mut help = String::from(
        "Policies, separated by commas; parameters follow a colon, in any order:\n  \
         serial,fixed:len=64,delay=200us,stream",
    );
    for policy in &PolicySpec::WORDS {
        help += &format!("\n  {:12} {}", policy.name, policy.meaning);
        for parameter in policy.parameters {
            let Parameter { key, form, meaning, .. } = parameter;
            let setting = format!("{key}={form}");
            let value = parameter.value(&policy.default);
            help += &format!("\n    {setting:17} {meaning} [default: {value}]");
        }
    }
    help
}

fn devices_help() -> String {
    let names: Vec<&str> = DeviceSpec::profiles().collect();
    let heading = format!(
        "Devices: a profile ({}), a file or the three lines;\nitems after it, separated by commas, \
         override it: h100,jitter=3%",
        names.join(", ")
    );
    section(&heading, device::ITEMS)
}

fn section<const LEN: usize>(heading: &str, words: [(&str, &str); LEN]) -> String {
    let lines = words.map(|(form, meaning)| match form.chars().count() {
        0..=26 => format!("\n  {form:27} {meaning}"),
        _ => format!("\n  {form}\n{:30}{meaning}", ""),
    });
    format!("{heading}{}", lines.concat())
}

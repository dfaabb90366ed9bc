//! Networks in words: how long the way takes, how much it carries, what is behind it.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::sim::words::{count, did_you_mean, duration_ns, refuse};
use crate::words::{duration_word, number};

/// Items of a network's spec, each with what it sets.
pub const ITEMS: [(&str, &str); 7] = [
    ("delay=5ms", "of every byte, one way, each way [default: 0s]"),
    ("bandwidth=10Gbit", "of the shared link, each way [default: no limit]"),
    ("request=150kB", "of a request on its way in [default: 150528B]"),
    ("answer=4kB", "of an answer on its way out [default: 4kB]"),
    ("announced", "a request is known as its headers come"),
    ("hosts=4", "hosts behind a balancer, each with such a device"),
    ("balancer=round-robin", "how one is chosen; else the least outstanding"),
];

/// Units of bandwidths, and of sizes.
const BIT_UNITS: [(&str, f64); 4] = [("Gbit", 1e9), ("Mbit", 1e6), ("kbit", 1e3), ("bit", 1.0)];
const BYTE_UNITS: [(&str, f64); 4] = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0)];

/// Which host a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balancer {
    /// One after the other.
    RoundRobin,
    /// The one with the fewest requests that are not answered; of several, the one after the last.
    Least,
}

/// A network between clients and hosts, as described by a spec; see `docs/SIMULATION.md`.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// How long a byte is on its way, in nanoseconds, each way.
    pub delay_ns: u64,
    /// What the link carries each way, in bits a second; none: all at once.
    pub bandwidth_bits_hz: Option<f64>,
    /// Bytes of a request.
    pub request_bytes: u64,
    /// Bytes of an answer.
    pub answer_bytes: u64,
    /// Whether hosts know a request from its headers on, else when its last byte is there.
    pub is_announced: bool,
    /// Hosts behind the balancer; at least one.
    pub host_len: usize,
    /// How one of them is chosen.
    pub balancer: Balancer,
}

impl Default for Network {
    /// One that takes no time, with one host; images of 224x224 pixels, answers of 1,000 classes.
    fn default() -> Self {
        Self {
            delay_ns: 0,
            bandwidth_bits_hz: None,
            request_bytes: 150_528,
            answer_bytes: 4_000,
            is_announced: false,
            host_len: 1,
            balancer: Balancer::Least,
        }
    }
}

impl Network {
    /// Requests a second that the link carries, whatever the hosts do.
    pub fn capacity_hz(&self) -> f64 {
        let bytes = self.request_bytes.max(self.answer_bytes).max(1);
        self.bandwidth_bits_hz.map_or(f64::INFINITY, |bits_hz| bits_hz / (8 * bytes) as f64)
    }

    /// What the network adds to the latency of a request that meets no other, in nanoseconds.
    pub fn alone_ns(&self) -> u64 {
        2 * self.delay_ns
            + self.transmission_ns(self.request_bytes)
            + self.transmission_ns(self.answer_bytes)
    }

    /// How long so many bytes occupy the link, in nanoseconds.
    pub(super) fn transmission_ns(&self, bytes: u64) -> u64 {
        self.bandwidth_bits_hz.map_or(0, |bits_hz| ((8 * bytes) as f64 * 1e9 / bits_hz) as u64)
    }

    fn apply(&mut self, item: &str) -> Result<()> {
        let (key, value) = item.split_once('=').unwrap_or((item, ""));
        match key {
            "delay" => self.delay_ns = duration_ns(value)?.round() as u64,
            "bandwidth" => {
                let bits_hz = amount(value.trim_end_matches("/s"), BIT_UNITS);
                self.bandwidth_bits_hz =
                    Some(bits_hz.filter(|bits_hz| *bits_hz > 0.0).ok_or_else(|| {
                        refuse(value, "not a bandwidth; write bits a second, such as 10Gbit")
                    })?);
            }
            "request" => self.request_bytes = bytes(value)?,
            "answer" => self.answer_bytes = bytes(value)?,
            "announced" if value.is_empty() => self.is_announced = true,
            "hosts" => self.host_len = count(value)?,
            "balancer" => {
                self.balancer = match value {
                    "round-robin" => Balancer::RoundRobin,
                    "least" => Balancer::Least,
                    _ => {
                        let guess = did_you_mean(value, ["round-robin", "least"]);
                        let remedy = format!("unknown balancer; write round-robin or least{guess}");
                        return Err(refuse(value, remedy));
                    }
                }
            }
            _ => {
                let keys = ITEMS.iter().filter_map(|(form, _)| form.split('=').next());
                let guess = did_you_mean(key, keys);
                let items = ITEMS.map(|(form, _)| form).join(", ");
                return Err(refuse(
                    item,
                    format!("unknown network item; items are {items}{guess}"),
                ));
            }
        }
        Ok(())
    }
}

/// A number with one of these units.
fn amount(text: &str, units: [(&str, f64); 4]) -> Option<f64> {
    let read = |(unit, scale): (&str, f64)| Some(number(text.trim().strip_suffix(unit)?)? * scale);
    units.into_iter().find_map(read)
}

fn bytes(text: &str) -> Result<u64> {
    amount(text, BYTE_UNITS)
        .filter(|bytes| (1.0..=1e12).contains(bytes))
        .map(|bytes| bytes.round() as u64)
        .ok_or_else(|| refuse(text, "not a size; write B, kB, MB or GB, such as 150kB"))
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut network = Self::default();
        for item in text.split(',') {
            network.apply(item)?;
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    /// The items that are not the default's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delay={}", duration_word(self.delay_ns))?;
        if let Some(bits_hz) = self.bandwidth_bits_hz {
            let (unit, scale) =
                BIT_UNITS.into_iter().find(|unit| bits_hz >= unit.1).unwrap_or(("bit", 1.0));
            write!(f, ",bandwidth={}{unit}", bits_hz / scale)?;
        }
        let usual = Self::default();
        for (key, bytes, usual_bytes) in [
            ("request", self.request_bytes, usual.request_bytes),
            ("answer", self.answer_bytes, usual.answer_bytes),
        ] {
            if bytes != usual_bytes {
                write!(f, ",{key}={bytes}B")?;
            }
        }
        if self.is_announced {
            write!(f, ",announced")?;
        }
        if self.host_len > 1 {
            write!(f, ",hosts={}", self.host_len)?;
        }
        match self.balancer {
            Balancer::RoundRobin => write!(f, ",balancer=round-robin"),
            Balancer::Least => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_written_as_it_is_read() {
        for words in [
            "delay=5ms",
            "delay=0s,bandwidth=2.5Gbit",
            "delay=20ms,bandwidth=10Gbit,request=3072B,answer=40B,announced,hosts=4",
            "delay=1us,hosts=2,balancer=round-robin",
        ] {
            assert_eq!(words.parse::<Network>().unwrap().to_string(), words);
        }
        let network: Network = "bandwidth=8Mbit/s,request=1kB,delay=1ms".parse().unwrap();
        assert_eq!(network.capacity_hz(), 250.0);
        assert_eq!(network.alone_ns(), 2_000_000 + 1_000_000 + 4_000_000);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for (words, culprit) in [
            ("", "unknown network item"),
            ("delay=5", "`5`: not a duration"),
            ("bandwidth=10", "`10`: not a bandwidth"),
            ("bandwidth=0Gbit", "`0Gbit`: not a bandwidth"),
            ("request=150528", "`150528`: not a size"),
            ("answer=0B", "`0B`: not a size"),
            ("hosts=0", "`0`: not a count"),
            ("balancer=lest", "did you mean `least`?"),
            ("dealy=5ms", "did you mean `delay`?"),
            ("announced=yes", "unknown network item"),
        ] {
            let error = words.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains(culprit), "{words}: {error}");
        }
    }
}

//! What images cost, in money and in energy, by what a device does in an hour.
//!
//! Counted are whole devices, busy or not, over the images of the rate.

use serde::Serialize;

use super::or_none;
use crate::table;

/// What a device takes.
#[derive(clap::Args)]
pub(super) struct Rates {
    /// Price of a device-hour, in any currency: tells the cost of a million images.
    #[arg(long, value_parser = above_zero)]
    price: Option<f64>,
    /// Power of a device and its share of the host, in watts: tells the energy of a million images.
    #[arg(long, value_parser = above_zero)]
    watts: Option<f64>,
}

fn above_zero(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value: &f64| value.is_finite() && *value > 0.0);
    value.ok_or_else(|| "write a plain number above zero, such as 2.5".to_owned())
}

/// What a million images cost; none of it that was not asked for, or where there is no rate.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Costs {
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_per_million: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kwh_per_million: Option<f64>,
}

impl Rates {
    /// The costs of so many devices at a rate.
    pub(super) fn at(&self, device_len: usize, rate_hz: Option<f64>) -> Costs {
        let device_hours = rate_hz.map(|rate_hz| device_len as f64 * 1e6 / rate_hz / 3600.0);
        let of = |rate: Option<f64>| Some(rate? * device_hours?);
        Costs {
            cost_per_million: of(self.price),
            kwh_per_million: of(self.watts.map(|watts| watts * 1e-3)),
        }
    }

    /// The columns that were asked for, headings first.
    pub(super) fn columns(&self, rows: &[Costs]) -> Vec<Vec<String>> {
        let column = |heading: &str, figure: fn(&Costs) -> Option<f64>| {
            let cells =
                rows.iter().map(|row| or_none(figure(row), |cost| table::round(cost).to_string()));
            std::iter::once(heading.to_owned()).chain(cells).collect()
        };
        let price = self.price.map(|_| column("cost/million", |row| row.cost_per_million));
        let watts = self.watts.map(|_| column("kWh/million", |row| row.kwh_per_million));
        price.into_iter().chain(watts).collect()
    }

    /// Says what was counted.
    pub(super) fn explain(&self) -> anyhow::Result<()> {
        let given = [
            self.price.map(|price| format!("{price} an hour")),
            self.watts.map(|watts| format!("{watts} W")),
        ];
        let given: Vec<String> = given.into_iter().flatten().collect();
        if given.is_empty() {
            return Ok(());
        }
        Ok(table::print(&format!(
            "a million images at that rate: whole devices, busy or not, each at {}",
            given.join(" and ")
        ))?)
    }
}

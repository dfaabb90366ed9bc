//! A bound on the mean for several devices behind one queue, alike or not.
//!
//! A device that computes a share of the arrivals, λ' a nanosecond, has the fixed cost c of each
//! batch in the time that their k·λ' leaves: batches a nanosecond are at most (1 − k·λ')/c. A
//! batch's mean length, counted by image, is no less than images over batches, so that its images
//! take c + k·b ≥ c/(1 − k·λ') on average, and no less than c + k. However arrivals are shared out,
//! whoever knows them all in advance, the mean is at least the least sum of that.

use super::{ServiceTimes, transfers_ns};
use crate::sched::Line;
use crate::sim::device::DeviceSpec;

/// Halvings of the price of an image: to the last digits.
const STEPS: usize = 200;

/// No mean latency in nanoseconds is below this at this arrival rate, of devices that serve one
/// queue without end; none where the rate is beyond what their lines allow.
pub fn several_mean_ns(devices: &[DeviceSpec], batch_len_max: usize, rate_hz: f64) -> Option<f64> {
    let lines: Vec<Line> = devices.iter().map(|device| line_below(device, batch_len_max)).collect();
    let per_ns = rate_hz * 1e-9;
    let capacity_per_ns: f64 = lines.iter().map(|line| 1.0 / line.per_image_ns).sum();
    if per_ns >= capacity_per_ns {
        return None;
    }
    let transfers_ns = devices.iter().map(transfers_ns).fold(f64::INFINITY, f64::min);
    let shares = |price: f64| lines.iter().map(move |line| share_per_ns(line, price));
    let mut low = 0.0;
    let mut high = lines.iter().map(|line| line.at_ns(1)).fold(1.0, f64::max);
    while shares(high).sum::<f64>() < per_ns {
        high *= 2.0;
    }
    for _ in 0..STEPS {
        let price = 0.5 * (low + high);
        if shares(price).sum::<f64>() < per_ns { low = price } else { high = price }
    }
    // Any price gives a bound (Lagrange's dual), this one the best.
    let sum: f64 = lines
        .iter()
        .map(|line| {
            let share = share_per_ns(line, low);
            share * (mean_ns(line, share) - low)
        })
        .sum();
    Some(transfers_ns + low + sum / per_ns)
}

/// A line that no batch's time is below.
fn line_below(device: &DeviceSpec, batch_len_max: usize) -> Line {
    let times = ServiceTimes::compute(device, batch_len_max);
    let per_image_ns = device.lines().compute.per_image_ns;
    let least =
        |of: &dyn Fn(usize) -> f64| (1..=batch_len_max).map(of).fold(f64::INFINITY, f64::min);
    let fixed_ns = least(&|len| times.at_ns(len) - per_image_ns * len as f64);
    if fixed_ns > 0.0 && per_image_ns > 0.0 {
        return Line::new(fixed_ns, per_image_ns);
    }
    Line::new(0.0, least(&|len| times.at_ns(len) / len as f64))
}

/// Mean time of the batches of a device's images, at the least.
fn mean_ns(line: &Line, per_ns: f64) -> f64 {
    line.at_ns(1).max(line.fixed_ns / (1.0 - line.per_image_ns * per_ns))
}

/// The arrivals that a device is best given where each of them may cost so much.
fn share_per_ns(line: &Line, price_ns: f64) -> f64 {
    let (alone_ns, image_ns) = (line.at_ns(1), line.per_image_ns);
    if price_ns <= alone_ns {
        return 0.0;
    }
    // Up to here batches of one image are the best.
    let alone_per_ns = 1.0 / alone_ns;
    let spare = (line.fixed_ns / price_ns).sqrt();
    alone_per_ns.max((1.0 - spare) / image_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(words: &str) -> DeviceSpec {
        words.parse().unwrap()
    }

    /// Alike, they share arrivals evenly: c/(1 − ρ), or c + k, and the transfers.
    #[test]
    fn alike_devices_share_evenly() {
        let one = device("up=10us+2us,compute=500us+25us,down=3us+1us");
        for (load, expected_ns) in [(0.02, 525e3), (0.5, 1_000e3), (0.9, 5_000e3)] {
            for len in [1, 2, 8] {
                let rate_hz = load * len as f64 / 25e-6;
                let bound_ns = several_mean_ns(&vec![one.clone(); len], 256, rate_hz).unwrap();
                let expected_ns = expected_ns + 16e3;
                assert!((bound_ns / expected_ns - 1.0).abs() < 1e-6, "{len}: {bound_ns}");
            }
        }
        assert_eq!(several_mean_ns(&[one.clone(), one], 256, 80e3), None);
    }

    /// Of two devices that differ no split does better, tried one by one; the bound is the best.
    #[test]
    fn no_split_is_below_it_and_one_reaches_it() {
        let specs = [
            "up=1ns+0ns,compute=500us+25us,down=1ns+0ns",
            "up=1ns+0ns,compute=1ms+50us,down=1ns+0ns",
        ];
        let devices = specs.map(device);
        let lines = [0, 1].map(|at: usize| devices[at].lines().compute);
        for load in [0.05, 0.4, 0.9] {
            let per_ns = load * 1.5 / 25e3;
            let bound_ns = several_mean_ns(&devices, 256, per_ns * 1e9).unwrap() - 2.0;
            let best_ns = (0..=10_000)
                .map(|part| per_ns * f64::from(part) / 10_000.0)
                .filter(|first| first * 25e3 < 1.0 && (per_ns - first) * 50e3 < 1.0)
                .map(|first| {
                    let rest = per_ns - first;
                    (first * mean_ns(&lines[0], first) + rest * mean_ns(&lines[1], rest)) / per_ns
                })
                .fold(f64::INFINITY, f64::min);
            assert!((0.9999..1.0 + 1e-9).contains(&(bound_ns / best_ns)), "{bound_ns} {best_ns}");
        }
    }
}

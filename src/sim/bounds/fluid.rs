//! Goodput of the fluid limit: arrivals without randomness, cut into the longest batches that a
//! latency bound allows.

use super::ServiceTimes;

/// Largest rate in images a second that can be answered within `latency_bound_ns` of arrival when
/// images arrive evenly at `rate_hz`.
///
/// A batch of b takes b / rate to arrive and T(b) to serve; of all lengths that fit the bound, the
/// one of the highest throughput counts, interpolated between whole lengths.
pub fn fluid_goodput_hz(times: &ServiceTimes, rate_hz: f64, latency_bound_ns: f64) -> f64 {
    let rate_per_ns = rate_hz * 1e-9;
    let total_ns = |len: usize| len as f64 / rate_per_ns + times.at_ns(len);
    let mut best_per_ns = 0.0_f64;
    for len in 1..=times.batch_len_max() {
        if total_ns(len) > latency_bound_ns {
            if len > 1 {
                let below_ns = total_ns(len - 1);
                let share = (latency_bound_ns - below_ns) / (total_ns(len) - below_ns);
                let time_ns =
                    times.at_ns(len - 1) + share * (times.at_ns(len) - times.at_ns(len - 1));
                best_per_ns = best_per_ns.max(((len - 1) as f64 + share) / time_ns);
            }
            break;
        }
        best_per_ns = best_per_ns.max(len as f64 / times.at_ns(len));
    }
    rate_per_ns.min(best_per_ns) * 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The closed form for a line: `min(λ, b / (k·b + c))`, `b = min(B, λ(L − c) / (1 + λk))`.
    #[test]
    fn a_line_gives_the_closed_form() {
        let (c, k) = (500_000.0, 25_000.0);
        let times = ServiceTimes::new(256, |len| k * len as f64 + c);
        for rate_hz in [5e3, 20e3, 40e3, 80e3] {
            for bound_ns in [2e6, 5e6, 10e6, 50e6] {
                let rate = rate_hz * 1e-9;
                let len = (rate * (bound_ns - c) / (1.0 + rate * k)).min(256.0);
                let expected_hz = rate.min(len / (k * len + c)) * 1e9;
                let goodput_hz = fluid_goodput_hz(&times, rate_hz, bound_ns);
                assert!((goodput_hz / expected_hz - 1.0).abs() < 1e-9, "{rate_hz} {bound_ns}");
            }
        }
        assert_eq!(fluid_goodput_hz(&times, 40e3, 1e5), 0.0);
    }
}

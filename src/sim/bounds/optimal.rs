//! Least mean time in the system of any online policy, as a semi-Markov decision process.
//!
//! State: images waiting when the engine is free. Actions: wait for one more arrival, or serve b.
//! Solved by policy iteration, each policy evaluated exactly by a linear system; it stops once the
//! span of the value-iteration step, after Schweitzer's transform to equal holding times, proves
//! the optimum to [`SPAN`]. Beyond a last state, where every policy worth having serves the most
//! efficient batch, the value is a known quadratic, so that nothing is cut off.

use super::ServiceTimes;
use super::poisson::PoissonWindow;

/// Distance between the returned mean and the optimum, relative to it, that ends the search.
const SPAN: f64 = 1e-7;

/// Policy iteration on these chains ends within some ten rounds.
const ROUNDS_MAX: usize = 50;

/// Least mean time in nanoseconds from arrival to completion under Poisson arrivals at `rate_hz`,
/// over all policies that don't know the future; none at or beyond capacity.
pub fn optimal_mean_ns(times: &ServiceTimes, rate_hz: f64) -> Option<f64> {
    let chain = Chain::new(times, rate_hz)?;
    let mut policy = chain.take_all();
    let mut bound_ns = 0.0_f64;
    for _ in 0..ROUNDS_MAX {
        let values = chain.evaluate(&policy);
        let span = chain.improve(&mut policy, &values);
        // No policy is better than this one by more than the span, converged or not.
        bound_ns = bound_ns.max(values.mean_ns(rate_hz) * (1.0 - span));
        if span <= SPAN {
            break;
        }
    }
    Some(bound_ns)
}

/// Mean time in nanoseconds from arrival to completion when all that wait are taken, up to the
/// longest batch, whenever the engine is free; none at or beyond capacity.
pub fn take_all_mean_ns(times: &ServiceTimes, rate_hz: f64) -> Option<f64> {
    let chain = Chain::new(times, rate_hz)?;
    Some(chain.evaluate(&chain.take_all()).mean_ns(rate_hz))
}

/// The images to serve in each state; 0 is to wait.
type Policy = Vec<usize>;

/// The long-run cost of a policy (images in the system, on average) and its relative values.
struct Values {
    images_mean: f64,
    /// By state, beyond the last one too, as far as one service can lead.
    relative_ns: Vec<f64>,
}

impl Values {
    /// Little's law.
    fn mean_ns(&self, rate_hz: f64) -> f64 {
        self.images_mean / rate_hz * 1e9
    }
}

struct Chain<'a> {
    times: &'a ServiceTimes,
    rate_per_ns: f64,
    /// Arrivals during a batch of 1, 2, … images.
    arrivals: Vec<PoissonWindow>,
    /// States are 0 to this one; beyond it the value is the quadratic.
    state_last: usize,
    /// A state that is visited often, whose value is set to 0. A rare one would not do: what is
    /// reached with probability 1e-30 leaves the equations singular in floating point.
    origin: usize,
    /// What is served beyond the last state.
    far_len: usize,
}

/// Value beyond the last state: `square · s² + (slope_free + slope_cost · images_mean) · s`.
struct Far {
    square: f64,
    slope_free: f64,
    slope_cost: f64,
}

impl<'a> Chain<'a> {
    fn new(times: &'a ServiceTimes, rate_hz: f64) -> Option<Self> {
        if rate_hz >= times.capacity_hz() {
            return None;
        }
        let rate_per_ns = rate_hz * 1e-9;
        let batch_len_max = times.batch_len_max();
        let arrived_mean = |len| rate_per_ns * times.at_ns(len);
        let arrivals =
            (1..=batch_len_max).map(|len| PoissonWindow::new(arrived_mean(len))).collect();
        // Where batches settle when each is what arrived during the one before.
        let origin = (0..10 * batch_len_max)
            .fold(0, |state, _| (arrived_mean(state.max(1)) as usize).min(batch_len_max));
        // The value's distance from the quadratic decays as exp(−s·sqrt(2π/B)) even at capacity:
        // 16 · sqrt(B) states beyond B are 40 e-foldings.
        let state_last = batch_len_max + 16 * batch_len_max.isqrt() + 32;
        let far_len = times.most_efficient_len();
        Some(Self { times, rate_per_ns, arrivals, state_last, origin, far_len })
    }

    fn take_all(&self) -> Policy {
        (0..=self.state_last)
            .map(|state| if state > self.times.batch_len_max() { self.far_len } else { state })
            .collect()
    }

    /// Expected image-nanoseconds spent in the system while `len` of `state` images are served.
    fn cost_ns(&self, state: usize, len: usize) -> f64 {
        let time_ns = self.times.at_ns(len);
        state as f64 * time_ns + 0.5 * self.rate_per_ns * time_ns * time_ns
    }

    /// The quadratic that solves the evaluation equation when `far_len` is served for ever.
    fn far(&self) -> Far {
        let time_ns = self.times.at_ns(self.far_len);
        let arrived = self.rate_per_ns * time_ns;
        let drained = self.far_len as f64 - arrived;
        let square = time_ns / (2.0 * drained);
        Far {
            square,
            slope_free: (0.5 * arrived * time_ns + square * (drained * drained + arrived))
                / drained,
            slope_cost: -time_ns / drained,
        }
    }

    /// Solves `V(s) = cost − images_mean · time + E V(next)` with `V(origin) = 0` for all states.
    fn evaluate(&self, policy: &Policy) -> Values {
        let last = self.state_last;
        let far = self.far();
        // Unknowns by column: V(state), and images_mean in place of V(origin).
        let mean_column = self.origin;
        let known_column = last + 1;
        let width = last + 2;
        let mut rows = vec![0.0; (last + 1) * width];
        for (state, &len) in policy.iter().enumerate() {
            let row = &mut rows[state * width..][..width];
            if state != self.origin {
                row[state] += 1.0;
            }
            let mut lead_to = |next: usize, probability: f64| {
                let column = next.min(last);
                if column != self.origin {
                    row[column] -= probability;
                }
                if next > last {
                    let (next, last_state) = (next as f64, last as f64);
                    let beyond = next - last_state;
                    row[mean_column] -= probability * far.slope_cost * beyond;
                    row[known_column] += probability
                        * (far.square * (next * next - last_state * last_state)
                            + far.slope_free * beyond);
                }
            };
            if len == 0 {
                lead_to(state + 1, 1.0);
                row[mean_column] += 1.0 / self.rate_per_ns;
                row[known_column] += state as f64 / self.rate_per_ns;
            } else {
                for (arrived, probability) in self.arrivals[len - 1].iter() {
                    lead_to(state - len + arrived, probability);
                }
                row[mean_column] += self.times.at_ns(len);
                row[known_column] += self.cost_ns(state, len);
            }
        }
        let mut relative_ns = solve(rows, last + 1);
        let images_mean = std::mem::replace(&mut relative_ns[self.origin], 0.0);
        let reach = self.arrivals.iter().map(PoissonWindow::last).max().unwrap_or(0);
        let last_ns = relative_ns[last];
        let last_state = last as f64;
        for state in last + 1..=last + reach {
            let state = state as f64;
            relative_ns.push(
                last_ns
                    + far.square * (state * state - last_state * last_state)
                    + (far.slope_free + far.slope_cost * images_mean) * (state - last_state),
            );
        }
        Values { images_mean, relative_ns }
    }

    /// Takes the best action in each state. Returns by how much the policy that `values` are of
    /// can be from the optimum, relative to its mean.
    fn improve(&self, policy: &mut Policy, values: &Values) -> f64 {
        let wait_ns = 1.0 / self.rate_per_ns;
        let mut gain_most = 0.0_f64;
        for (state, choice) in policy.iter_mut().enumerate() {
            let value_ns = values.relative_ns[state];
            let mut best_ns = f64::INFINITY;
            let mut consider = |len: usize, time_ns: f64, action_ns: f64| {
                let action_ns = action_ns - values.images_mean * time_ns;
                // Schweitzer's transform: gain for each unit of the time that the action holds.
                gain_most = gain_most.max((value_ns - action_ns) / time_ns);
                if action_ns < best_ns {
                    best_ns = action_ns;
                    *choice = len;
                }
            };
            for len in 1..=state.min(self.times.batch_len_max()) {
                let window = &self.arrivals[len - 1];
                let next = &values.relative_ns[state - len + window.first..];
                let next_ns: f64 =
                    window.probabilities.iter().zip(next).map(|(p, value)| p * value).sum();
                consider(len, self.times.at_ns(len), self.cost_ns(state, len) + next_ns);
            }
            if state < self.state_last {
                let next_ns = values.relative_ns[state + 1];
                consider(0, wait_ns, state as f64 * wait_ns + next_ns);
            }
        }
        gain_most / values.images_mean
    }
}

/// Solves the `len` equations in `rows` (each: `len` coefficients, then the right-hand side) by
/// elimination with partial pivoting.
fn solve(mut rows: Vec<f64>, len: usize) -> Vec<f64> {
    let width = len + 1;
    for column in 0..len {
        let pivot = (column..len)
            .max_by(|&a, &b| {
                rows[a * width + column].abs().total_cmp(&rows[b * width + column].abs())
            })
            .unwrap_or(column);
        if pivot != column {
            for index in column..width {
                rows.swap(column * width + index, pivot * width + index);
            }
        }
        let (above, below) = rows.split_at_mut((column + 1) * width);
        let pivot_row = &above[column * width..];
        for row in below.chunks_exact_mut(width) {
            let factor = row[column] / pivot_row[column];
            if factor != 0.0 {
                for (value, pivot_value) in row[column..].iter_mut().zip(&pivot_row[column..]) {
                    *value -= factor * pivot_value;
                }
            }
        }
    }
    let mut solution = vec![0.0; len];
    for index in (0..len).rev() {
        let row = &rows[index * width..][..width];
        let known: f64 =
            row[index + 1..len].iter().zip(&solution[index + 1..]).map(|(a, x)| a * x).sum();
        solution[index] = (row[len] - known) / row[index];
    }
    solution
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::Line;
    use crate::sim::bounds::TakeAll;
    use crate::sim::random::{Random, Stream};

    fn line_times(line: Line, batch_len_max: usize) -> ServiceTimes {
        ServiceTimes::new(batch_len_max, |len| line.at_ns(len))
    }

    const COMPUTE: Line = Line::new(500_000.0, 25_000.0);

    #[test]
    fn single_images_are_the_textbook_queue() {
        // One image a batch is M/D/1: W = t + ρ·t / (2·(1 − ρ)).
        let times = ServiceTimes::new(1, |_| 1e6);
        for load in [0.1, 0.5, 0.9, 0.99] {
            let expected_ns = 1e6 * (1.0 + load / (2.0 * (1.0 - load)));
            let mean_ns = optimal_mean_ns(&times, load * 1_000.0).unwrap();
            assert!((mean_ns / expected_ns - 1.0).abs() < 1e-9, "{mean_ns} {expected_ns}");
        }
        assert_eq!(optimal_mean_ns(&times, 1_000.0), None);
    }

    /// Two methods, one queue: policy evaluation against the stationary distribution.
    #[test]
    fn take_all_agrees_with_the_embedded_chain() {
        let times = line_times(COMPUTE, 700);
        for load in [0.05, 0.3, 0.5, 0.7, 0.8] {
            let rate_hz = load / COMPUTE.per_image_ns * 1e9;
            let exact_ns = TakeAll::new(&times, rate_hz).unwrap().mean_ns();
            let mean_ns = take_all_mean_ns(&times, rate_hz).unwrap();
            assert!((mean_ns / exact_ns - 1.0).abs() < 1e-8, "{load}: {mean_ns} {exact_ns}");
        }
    }

    /// Waiting may win a little over taking all, never more than that, and only below capacity.
    #[test]
    fn the_optimum_is_at_most_a_little_below_taking_all() {
        let times = line_times(COMPUTE, 256);
        for load in [0.1, 0.5, 0.7, 0.9] {
            let rate_hz = load / COMPUTE.per_image_ns * 1e9;
            let optimal_ns = optimal_mean_ns(&times, rate_hz).unwrap();
            let take_all_ns = take_all_mean_ns(&times, rate_hz).unwrap();
            let gain = 1.0 - optimal_ns / take_all_ns;
            assert!((-1e-9..4e-3).contains(&gain), "load {load}: gain {gain}");
        }
    }

    /// Direct simulation of the optimum's hardest rival on a staircase: every threshold rule that
    /// serves at most `cap` once `least` wait. None may beat the bound, the best comes close.
    #[test]
    fn no_threshold_rule_beats_the_optimum_on_a_staircase() {
        let staircase = [1e6, 1.1e6, 4e6, 4e6, 4e6, 4e6];
        let times = ServiceTimes::new(staircase.len(), |len| staircase[len - 1]);
        let rate_hz = 1_000.0;
        let bound_ns = optimal_mean_ns(&times, rate_hz).unwrap();
        let mut best_ns = f64::INFINITY;
        for least in 1..=3 {
            for cap in least..=6 {
                best_ns = best_ns.min(threshold_mean_ns(&times, rate_hz, least, cap));
            }
        }
        println!("bound {bound_ns}, best rule {best_ns}");
        assert!(best_ns > bound_ns * 0.99, "{best_ns} beats {bound_ns}");
        assert!(best_ns < bound_ns * 1.03, "{best_ns} is far above {bound_ns}");
    }

    fn threshold_mean_ns(times: &ServiceTimes, rate_hz: f64, least: usize, cap: usize) -> f64 {
        const LEN: usize = 400_000;
        let mut random = Random::new(17, Stream::Arrivals);
        let mut now_ns = 0.0;
        let arrivals: Vec<f64> = (0..LEN)
            .map(|_| {
                now_ns += random.exponential() * 1e9 / rate_hz;
                now_ns
            })
            .collect();
        let (mut served, mut free_ns, mut sum_ns) = (0, 0.0_f64, 0.0);
        while served + least <= LEN {
            let start_ns = free_ns.max(arrivals[served + least - 1]);
            if start_ns > 1e9 * 1e6 {
                return f64::INFINITY;
            }
            let waiting = arrivals[served..].iter().take(cap).take_while(|&&at| at <= start_ns);
            let len = waiting.count();
            free_ns = start_ns + times.at_ns(len);
            sum_ns += arrivals[served..served + len].iter().map(|at| free_ns - at).sum::<f64>();
            served += len;
        }
        sum_ns / served as f64
    }
}

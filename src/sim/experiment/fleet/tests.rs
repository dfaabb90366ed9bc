//! The simple rules against known figures, and the default against them.

use super::*;

const SCALE: Scale = Scale { seed: 11, request_len: 400_000 };

fn found(lane_len: usize, fixed_images: f64, link: Link, load: f64) -> Found {
    Found::of(&Point { lane_len, slower: 1.0, fixed_images, link, load }, &SCALE)
}

/// Without uploads, c/k = 20: figures of an independent simulation of the same rules, the mean over
/// three other seeds.
#[test]
fn simple_rules_are_as_known() {
    let known = [
        (4, 0.7, [Some(2.573), Some(2.646), None, Some(2.341), Some(2.754)], 3.250),
        (8, 0.7, [Some(2.670), Some(2.553), None, Some(2.303), Some(2.755)], 3.090),
    ];
    for (lane_len, load, means_ms, p99_ms) in known {
        let found = found(lane_len, 20.0, Link::Free, load);
        for (figures, expected_ms) in found.rules.iter().zip(means_ms) {
            let Some(expected_ms) = expected_ms else { continue };
            let ratio = figures.mean_ms / expected_ms;
            assert!((ratio - 1.0).abs() < 0.02, "{lane_len}: {figures:?}, {expected_ms}");
        }
        let ratio = found.rules[3].p99_ms / p99_ms;
        assert!((ratio - 1.0).abs() < 0.02, "{:?}", found.rules[3]);
    }
}

/// Goal: at least as good as the best rule, and much better where many devices are busy.
#[test]
fn the_default_is_ahead_of_the_best_simple_rule() {
    for (lane_len, fixed_images, link, load, goal) in [
        (4, 20.0, Link::Free, 0.7, (0.87, 0.80)),
        (8, 20.0, Link::Own, 0.5, (0.95, 0.85)),
        (2, 8.0, Link::Shared, 0.8, (0.97, 0.93)),
        (8, 1.0, Link::Shared, 0.4, (1.02, 1.02)),
        (4, 0.1, Link::Own, 0.8, (1.02, 1.02)),
    ] {
        let found = found(lane_len, fixed_images, link, load);
        let (mean, p99) = found.ratios();
        println!("{lane_len} {fixed_images} {link:?} {load}: {mean:.3} {p99:.3}");
        assert!(mean <= goal.0 && p99 <= goal.1, "{lane_len} {fixed_images} {link:?} {load}");
        assert!(found.default.mean_ms >= found.bound_ms, "{found:?}");
    }
}

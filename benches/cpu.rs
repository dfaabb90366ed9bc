//! Time of the CPU backend, one JSON object a line; `scripts/bench-cpu.py` pairs it with peers.
//!
//! `cargo bench --bench cpu -- THREADS SIDE BATCH [PRECISION [WEIGHTS]]` measures one
//! configuration; without arguments, a short round over several. Minimum and median over
//! repetitions of at least a second in all.

use std::path::Path;
use std::time::{Duration, Instant};

use twinstream::backend::cpu::{Cpu, CpuOptions};
use twinstream::model::Model;

const WEIGHTS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/models/resnet50-cifar10/model.safetensors");

fn main() {
    let words: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let test_mode = std::env::args().any(|word| word == "--test");
    let budget = Duration::from_secs(if test_mode { 0 } else { 1 });
    if let [threads, side, batch_len, rest @ ..] = &words[..] {
        let number = |word: &String| word.parse().expect("THREADS SIDE BATCH are numbers");
        let numbers = (number(threads), number(side), number(batch_len));
        return measure(numbers, rest, budget);
    }
    for side in [32, 224] {
        for batch_len in [1, 16] {
            measure((1, side, batch_len), &[], budget);
        }
    }
}

fn measure(
    (threads, side, batch_len): (usize, usize, usize),
    precision_and_weights: &[String],
    budget: Duration,
) {
    let weights = precision_and_weights.get(1).map_or(WEIGHTS, String::as_str);
    let config = Path::new(WEIGHTS).with_file_name("config.json");
    let model = Model::load(weights.as_ref(), Some(&config)).expect("the weights load");
    let mut options = CpuOptions::for_model(&model).threads(threads).height(side).width(side);
    if let Some(precision) = precision_and_weights.first() {
        options = options.precision(precision.parse().expect("PRECISION is one"));
    }
    let mut cpu = Cpu::new(&model, &options).expect("the options are in range");
    let precision = options.precision;
    let images: Vec<u8> =
        (0..batch_len * cpu.image_bytes()).map(|i| (i * 31 % 251) as u8).collect();
    let mut logits = vec![0.0; batch_len * model.class_count()];
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 3 || start.elapsed() < budget {
        let begin = Instant::now();
        cpu.infer(&images, &mut logits).expect("whole images");
        times.push(begin.elapsed());
    }
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let sum: f32 = logits.iter().sum();
    println!(
        "{{\"precision\":\"{precision}\",\"threads\":{threads},\"side\":{side},\
         \"batch\":{batch_len},\"min_ms\":{:.3},\"median_ms\":{:.3},\"repetitions\":{},\
         \"logits_sum\":{sum:.4},\"peak_rss_bytes\":{}}}",
        ms(times[0]),
        ms(times[times.len() / 2]),
        times.len(),
        peak_rss_bytes()
    );
}

/// The largest resident memory of this process so far; 0 where the system does not say.
fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

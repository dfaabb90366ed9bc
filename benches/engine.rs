//! What the engine costs around a device that does nothing, beside a batching thread behind
//! channels; one JSON object a line.
//!
//! `cargo bench --bench engine` measures images of 3,072 bytes, no two alike, written into their
//! slots: requests a second from lease through commit to the result, with one and two producers,
//! and the latency of one request alone; what a request costs with a trace, and with a cache that
//! no image is found in, over one without; and what a cache gains on the CPU where images come
//! again.
//! `--test` runs each shortly, `costs` those with trace and cache alone. The peer is what services
//! build from crates: a bounded channel of pooled boxes, a thread that collects a batch until it is
//! full or a delay is over, and a pooled channel for each reply. Both sides keep the same number of
//! requests open.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use twinstream::backend::{BackendSpec, Geometry, Null, OpenOptions};
use twinstream::engine::{Engine, EngineOptions, RequestOptions, Ticket};
use twinstream::model::Model;

/// A 32x32 RGB image.
const IMAGE_BYTES: usize = 3072;
const RESULT_LEN: usize = 10;
const BATCH_LEN_MAX: usize = 256;
/// Requests that a producer keeps open.
const OPEN_LEN: usize = 128;
/// A 224x224 one.
const LARGE_IMAGE_BYTES: usize = 150_528;
/// Bytes of the images of a short round: some tens of milliseconds.
const ROUND_BYTES: usize = 300_000_000;
/// Pairs of rounds, and those before, in which a cache finds out that it does not pay.
const ROUND_LEN: usize = 41;
const WARM_UP_LEN: usize = 2;
/// Without spinning, and by default.
const SPINS_US: [u64; 2] = [0, 50];

/// A service that answers images.
trait Service: Sync {
    type Pending;
    fn name(&self) -> String;
    /// Writes an image and hands it in; none when there is no room.
    fn submit(&self, image: &[u8]) -> Option<Self::Pending>;
    /// Blocks until it is answered and reads a value of the result.
    fn finish(&self, pending: Self::Pending) -> f32;
}

struct Ours {
    engine: Engine,
    name: String,
}

impl Ours {
    fn new(spin: Duration) -> Self {
        Self::of(IMAGE_BYTES, spin, 0, 0)
    }

    fn of(image_bytes: usize, spin: Duration, trace_len: usize, cache_bytes: usize) -> Self {
        let null = Null::new(Geometry {
            image_bytes,
            result_len: RESULT_LEN,
            batch_len_max: BATCH_LEN_MAX,
        });
        let options = EngineOptions::default()
            .spin(spin)
            .slot_len(1024)
            .trace_len(trace_len)
            .cache_bytes(cache_bytes);
        let engine = Engine::start(null, &options).expect("a few MiB and a thread");
        let name = format!("twinstream, spin {} us", spin.as_micros());
        Self { engine, name }
    }
}

impl Service for Ours {
    type Pending = Ticket;

    fn name(&self) -> String {
        self.name.clone()
    }

    fn submit(&self, image: &[u8]) -> Option<Ticket> {
        let mut lease = self.engine.lease().ok()?;
        lease.copy_from_slice(image);
        Some(lease.commit(RequestOptions::default()).expect("the engine runs"))
    }

    fn finish(&self, ticket: Ticket) -> f32 {
        ticket.wait().expect("nothing fails")[0]
    }
}

/// An image on its way, its result, and where that is waited for: goes round through a pool.
struct Parcel {
    image: Box<[u8]>,
    result: [f32; RESULT_LEN],
    reply: Sender<Box<Parcel>>,
    replied: Receiver<Box<Parcel>>,
}

struct Peer {
    requests: Sender<Box<Parcel>>,
    pool: (Sender<Box<Parcel>>, Receiver<Box<Parcel>>),
    delay: Duration,
}

impl Peer {
    fn new(delay: Duration) -> Self {
        let (requests, arrivals) = bounded::<Box<Parcel>>(1024);
        let pool = bounded(1024);
        for _ in 0..1024 {
            let (reply, replied) = bounded(1);
            let image = vec![0; IMAGE_BYTES].into();
            let parcel = Parcel { image, result: [0.0; RESULT_LEN], reply, replied };
            pool.0.send(Box::new(parcel)).expect("room for all");
        }
        thread::spawn(move || batch(&arrivals, delay));
        Self { requests, pool, delay }
    }
}

/// Collects batches and answers them at once.
fn batch(arrivals: &Receiver<Box<Parcel>>, delay: Duration) {
    let mut parcels = Vec::with_capacity(BATCH_LEN_MAX);
    while let Ok(first) = arrivals.recv() {
        parcels.push(first);
        let until = Instant::now() + delay;
        while parcels.len() < BATCH_LEN_MAX {
            match arrivals.recv_deadline(until) {
                Ok(parcel) => parcels.push(parcel),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        for parcel in parcels.drain(..) {
            let reply = parcel.reply.clone();
            reply.send(parcel).expect("the parcel holds its receiver");
        }
    }
}

impl Service for Peer {
    type Pending = Receiver<Box<Parcel>>;

    fn name(&self) -> String {
        format!("crossbeam channel, batcher of {} us", self.delay.as_micros())
    }

    fn submit(&self, image: &[u8]) -> Option<Self::Pending> {
        let mut parcel = self.pool.1.try_recv().ok()?;
        parcel.image.copy_from_slice(image);
        let replied = parcel.replied.clone();
        self.requests.send(parcel).expect("the batcher lives");
        Some(replied)
    }

    fn finish(&self, replied: Self::Pending) -> f32 {
        let parcel = replied.recv().expect("answered");
        let value = parcel.result[0];
        self.pool.0.send(parcel).expect("room for all");
        value
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let is_test = words.iter().any(|word| word == "--test");
    if !words.iter().any(|word| word == "costs") {
        beside_channels(is_test);
        for side in [32, 224] {
            repeated(side, if is_test { 1 } else { 20 });
        }
    }
    cost("tracing", IMAGE_BYTES, (1 << 16, 0), is_test);
    for image_bytes in [IMAGE_BYTES, LARGE_IMAGE_BYTES] {
        cost("unique images", image_bytes, (0, 1 << 20), is_test);
    }
}

/// Throughput and latency of one alone, beside channels.
fn beside_channels(is_test: bool) {
    let duration = Duration::from_millis(if is_test { 20 } else { 2000 });
    let alone_len = if is_test { 200 } else { 50_000 };
    for producer_len in [1, 2] {
        for spin_us in SPINS_US {
            throughput(&Ours::new(Duration::from_micros(spin_us)), producer_len, duration);
        }
        throughput(&Peer::new(Duration::ZERO), producer_len, duration);
        throughput(&Peer::new(Duration::from_micros(100)), producer_len, duration);
    }
    for spin_us in SPINS_US {
        alone(&Ours::new(Duration::from_micros(spin_us)), alone_len);
    }
    alone(&Peer::new(Duration::ZERO), alone_len);
    alone(&Peer::new(Duration::from_micros(100)), alone_len.min(5000));
}

/// What something more costs, by requests of a given size, no two alike: time and processor time of
/// each with it over those without. In short rounds on two engines in turns, so that other work on
/// the machine meets both; the processor's time of the whole process is changed least by it.
fn cost(bench: &str, image_bytes: usize, (trace_len, cache_bytes): (usize, usize), is_test: bool) {
    let spin = Duration::from_micros(SPINS_US[1]);
    let plain = Ours::of(image_bytes, spin, 0, 0);
    let more = Ours::of(image_bytes, spin, trace_len, cache_bytes);
    let request_len = ROUND_BYTES / image_bytes / if is_test { 50 } else { 1 };
    let mut number = 0;
    let mut run = |service: &Ours| round(service, image_bytes, request_len, &mut number);
    for _ in 0..WARM_UP_LEN {
        run(&plain);
        run(&more);
    }
    // What comes later finds a warmer machine: each goes first as often.
    let ratios: Vec<[f64; 2]> = (0..if is_test { 3 } else { ROUND_LEN })
        .map(|_| {
            let (first, second) = (run(&plain), run(&more));
            let (third, fourth) = (run(&more), run(&plain));
            [0, 1].map(|which| (second[which] + third[which]) / (first[which] + fourth[which]))
        })
        .collect();
    let [times, processor_times] = [0, 1].map(|which| {
        let mut sorted: Vec<f64> = ratios.iter().map(|ratio| ratio[which]).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |quarter: usize| sorted[quarter * (sorted.len() - 1) / 4];
        [at(1), at(2), at(3)]
    });
    println!(
        "{{\"bench\":\"{bench}\",\"image_bytes\":{image_bytes},\"requests\":{request_len},\
         \"rounds\":{},\"time_ratio\":{:.4},\"time_ratio_quartiles\":[{:.4},{:.4}],\
         \"processor_ratio\":{:.4},\"processor_ratio_quartiles\":[{:.4},{:.4}]}}",
        ratios.len(),
        times[1],
        times[0],
        times[2],
        processor_times[1],
        processor_times[0],
        processor_times[2],
    );
}

/// Time and processor time in nanoseconds of so many requests, some of which are open at a time.
fn round(service: &Ours, image_bytes: usize, request_len: usize, number: &mut u64) -> [f64; 2] {
    let mut image = vec![7; image_bytes];
    let mut open = VecDeque::with_capacity(OPEN_LEN);
    let (start, cpu_start_ns) = (Instant::now(), live_cpu_ns());
    for _ in 0..request_len {
        if open.len() == OPEN_LEN {
            service.finish(open.pop_front().expect("it is full"));
        }
        *number += 1;
        image[..8].copy_from_slice(&number.to_le_bytes());
        let pending = loop {
            match service.submit(&image) {
                Some(pending) => break pending,
                None => thread::yield_now(),
            }
        };
        open.push_back(pending);
    }
    for pending in open {
        service.finish(pending);
    }
    [start.elapsed().as_nanos() as f64, (live_cpu_ns() - cpu_start_ns) as f64]
}

/// What a cache gains for the network on the CPU, where the n-th of 1,000 images comes 1/n as often
/// as the first (Zipf); and how long a request takes alone whose answer is kept, beside one that is
/// computed.
fn repeated(side: usize, round_len: usize) {
    const BURST_LEN: usize = 32;
    let [plain, cached] = [0, 16 << 20].map(|cache_bytes| network(side, cache_bytes));
    let mut random = SplitMix64::seed_from_u64(1);
    let noise: Vec<u8> = (0..side * side * 3).map(|_| random.next_u64() as u8).collect();
    let submit = |engine: &Engine, number: usize| {
        let mut lease = engine.lease().expect("a slot is free");
        lease.copy_from_slice(&noise);
        lease[..8].copy_from_slice(&number.to_le_bytes());
        lease.commit(RequestOptions::default()).expect("the engine runs")
    };
    let elapsed_s = |engine: &Engine, numbers: &[usize]| {
        let start = Instant::now();
        let tickets: Vec<_> = numbers.iter().map(|&number| submit(engine, number)).collect();
        tickets.into_iter().for_each(|ticket| drop(ticket.wait().expect("nothing fails")));
        start.elapsed().as_secs_f64()
    };
    let (mut computed_s, mut kept_s, mut spans_s) = (Vec::new(), Vec::new(), [0.0; 2]);
    for round in 0..round_len {
        let numbers: [usize; BURST_LEN] = std::array::from_fn(|_| zipf(random.next_u64()));
        for which in [round % 2, 1 - round % 2] {
            spans_s[which] += elapsed_s([&plain, &cached][which], &numbers);
        }
        computed_s.push(elapsed_s(&plain, &[0]));
        elapsed_s(&cached, &[0]);
        kept_s.push(elapsed_s(&cached, &[0]));
    }
    let [computed_us, kept_us] = [computed_s, kept_s].map(|mut times_s| {
        times_s.sort_unstable_by(f64::total_cmp);
        times_s[round_len / 2] * 1e6
    });
    let [plain_hz, cached_hz] = spans_s.map(|span_s| (BURST_LEN * round_len) as f64 / span_s);
    let cache = cached.stats().cache;
    println!(
        "{{\"bench\":\"repeated images\",\"side\":{side},\"plain_per_s\":{plain_hz:.1},\
         \"cached_per_s\":{cached_hz:.1},\"gain\":{:.2},\"hits\":{},\"joined\":{},\"misses\":{},\
         \"computed_alone_p50_us\":{computed_us:.0},\"kept_alone_p50_us\":{kept_us:.1}}}",
        cached_hz / plain_hz,
        cache.hits,
        cache.joined,
        cache.misses,
    );
}

/// The repository's network on the CPU.
fn network(side: usize, cache_bytes: usize) -> Engine {
    let weights = concat!(env!("CARGO_MANIFEST_DIR"), "/models/resnet50-cifar10/model.safetensors");
    let model = Model::load(weights.as_ref(), None).expect("the repository's network");
    let open = OpenOptions::default().size(Some((side, side)));
    let backend =
        BackendSpec::Cpu { threads: None }.open(Some(&model), &open).expect("a network on the CPU");
    let options = EngineOptions::default().slot_len(64).cache_bytes(cache_bytes);
    Engine::start(backend, &options).expect("a few MiB and a thread")
}

/// A number from 1 to 1,000, n with a chance of 1/n beside that of 1.
fn zipf(random: u64) -> usize {
    const LEN: usize = 1000;
    let whole: f64 = (1..=LEN).map(|n| 1.0 / n as f64).sum();
    let mut left = random as f64 / u64::MAX as f64 * whole;
    let is_past = |n: &usize| {
        left -= 1.0 / *n as f64;
        left <= 0.0
    };
    (1..=LEN).find(is_past).unwrap_or(LEN)
}

/// Requests a second, each producer with so many open at a time, and processor time for each.
fn throughput<S: Service>(service: &S, producer_len: usize, duration: Duration) -> (f64, f64)
where
    S::Pending: Send,
{
    let start = Instant::now();
    let cpu_start_ns = cpu_ns();
    let request_len: u64 = thread::scope(|scope| {
        let produce = || {
            let mut image: Vec<u8> = (0..IMAGE_BYTES).map(|i| (i * 31 % 251) as u8).collect();
            let mut open = VecDeque::with_capacity(OPEN_LEN);
            let (mut request_len, mut sum) = (0_u64, 0.0);
            while request_len % 64 != 0 || start.elapsed() < duration {
                image[..8].copy_from_slice(&request_len.to_le_bytes());
                match service.submit(&image) {
                    Some(pending) => {
                        open.push_back(pending);
                        request_len += 1;
                    }
                    None => thread::yield_now(),
                }
                if open.len() == OPEN_LEN {
                    sum += service.finish(open.pop_front().expect("it is full"));
                }
            }
            sum += open.drain(..).map(|pending| service.finish(pending)).sum::<f32>();
            assert_eq!(sum, 0.0, "nothing was computed");
            request_len
        };
        let threads: Vec<_> = (0..producer_len).map(|_| scope.spawn(produce)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    let requests_per_s = request_len as f64 / start.elapsed().as_secs_f64();
    let cpu_ns_per_request = (cpu_ns() - cpu_start_ns) as f64 / request_len as f64;
    println!(
        "{{\"bench\":\"throughput\",\"system\":\"{}\",\"producers\":{producer_len},\
         \"open\":{OPEN_LEN},\"requests\":{request_len},\"requests_per_s\":{:.0},\
         \"cpu_ns_per_request\":{cpu_ns_per_request:.0},\"cores\":{}}}",
        service.name(),
        requests_per_s,
        thread::available_parallelism().map_or(1, usize::from)
    );
    (requests_per_s, cpu_ns_per_request)
}

/// Latency of requests that are alone, from before the image is written until its result is read.
fn alone<S: Service>(service: &S, request_len: usize) {
    let image = vec![7; IMAGE_BYTES];
    let mut latencies_ns: Vec<u64> = (0..request_len)
        .map(|_| {
            let start = Instant::now();
            let pending = service.submit(&image).expect("nothing else is open");
            let value = service.finish(pending);
            assert_eq!(value, 0.0, "nothing was computed");
            start.elapsed().as_nanos() as u64
        })
        .collect();
    latencies_ns.sort_unstable();
    let quantile = |share: f64| latencies_ns[((request_len - 1) as f64 * share) as usize];
    println!(
        "{{\"bench\":\"alone\",\"system\":\"{}\",\"requests\":{request_len},\"p50_ns\":{},\
         \"p90_ns\":{},\"p99_ns\":{},\"cores\":{}}}",
        service.name(),
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        thread::available_parallelism().map_or(1, usize::from)
    );
}

/// Processor time of all threads of this process so far, in steps of 1/100 s; 0 where the system
/// does not say.
fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in brackets; user and system time are the 12th and 13th field, in 1/100 s.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>() * 10_000_000
}

/// Processor time so far of the threads that live, to the nanosecond; 0 where the system does not
/// say.
fn live_cpu_ns() -> u64 {
    // The system brings a thread's time up to date as it yields.
    thread::yield_now();
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let time_ns = |thread: std::fs::DirEntry| -> Option<u64> {
        let stat = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse().ok()
    };
    threads.filter_map(time_ns).sum()
}

//! What the engine costs around a device that does nothing, beside a batching thread behind
//! channels; one JSON object a line.
//!
//! `cargo bench --bench engine` measures images of 3,072 bytes written into their slots: requests a
//! second from lease through commit to the result, with one and two producers, and the latency of
//! one request alone; and the share of the requests that is left with a trace. `--test` runs each
//! shortly. The peer is what services build from crates: a
//! bounded channel of pooled boxes, a thread that collects a batch until it is full or a delay is
//! over, and a pooled channel for each reply. Both sides keep the same number of requests open.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use twinstream::backend::{Geometry, Null};
use twinstream::engine::{Engine, EngineOptions, RequestOptions, Ticket};

/// A 32x32 RGB image.
const IMAGE_BYTES: usize = 3072;
const RESULT_LEN: usize = 10;
const BATCH_LEN_MAX: usize = 256;
/// Requests that a producer keeps open.
const OPEN_LEN: usize = 128;
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
    spin: Duration,
    trace_len: usize,
}

impl Ours {
    fn new(spin: Duration, trace_len: usize) -> Self {
        let null = Null::new(Geometry {
            image_bytes: IMAGE_BYTES,
            result_len: RESULT_LEN,
            batch_len_max: BATCH_LEN_MAX,
        });
        let options = EngineOptions::default().spin(spin).slot_len(1024).trace_len(trace_len);
        let engine = Engine::start(null, &options).expect("a few MiB and a thread");
        Self { engine, spin, trace_len }
    }
}

impl Service for Ours {
    type Pending = Ticket;

    fn name(&self) -> String {
        let traced = if self.trace_len > 0 { ", traced" } else { "" };
        format!("twinstream, spin {} us{traced}", self.spin.as_micros())
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
    let is_test = std::env::args().any(|word| word == "--test");
    let duration = Duration::from_millis(if is_test { 20 } else { 2000 });
    let alone_len = if is_test { 200 } else { 50_000 };
    for producer_len in [1, 2] {
        for spin_us in SPINS_US {
            throughput(&Ours::new(Duration::from_micros(spin_us), 0), producer_len, duration);
        }
        throughput(&Peer::new(Duration::ZERO), producer_len, duration);
        throughput(&Peer::new(Duration::from_micros(100)), producer_len, duration);
    }
    for spin_us in SPINS_US {
        alone(&Ours::new(Duration::from_micros(spin_us), 0), alone_len);
    }
    alone(&Peer::new(Duration::ZERO), alone_len);
    alone(&Peer::new(Duration::from_micros(100)), alone_len.min(5000));
    tracing(duration);
}

/// The share of the requests a second that is left with a trace, in turns.
fn tracing(duration: Duration) {
    const TRACE_LEN: usize = 1 << 16;
    let rate = |trace_len| {
        throughput(&Ours::new(Duration::from_micros(SPINS_US[1]), trace_len), 1, duration)
    };
    // What comes later finds a warmer machine: each goes first as often.
    let share = |_| {
        let [plain, traced, again, last] = [0, TRACE_LEN, TRACE_LEN, 0].map(rate);
        (traced + again) / (plain + last)
    };
    let mut shares: Vec<f64> = (0..5).map(share).collect();
    shares.sort_unstable_by(f64::total_cmp);
    println!("{{\"bench\":\"tracing\",\"share_median\":{:.4},\"shares\":{shares:.3?}}}", shares[2]);
}

/// Requests a second, each producer with so many open at a time.
fn throughput<S: Service>(service: &S, producer_len: usize, duration: Duration) -> f64
where
    S::Pending: Send,
{
    let start = Instant::now();
    let cpu_start_ns = cpu_ns();
    let request_len: u64 = thread::scope(|scope| {
        let produce = || {
            let image: Vec<u8> = (0..IMAGE_BYTES).map(|i| (i * 31 % 251) as u8).collect();
            let mut open = VecDeque::with_capacity(OPEN_LEN);
            let (mut request_len, mut sum) = (0, 0.0);
            while request_len % 64 != 0 || start.elapsed() < duration {
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
    println!(
        "{{\"bench\":\"throughput\",\"system\":\"{}\",\"producers\":{producer_len},\
         \"open\":{OPEN_LEN},\"requests\":{request_len},\"requests_per_s\":{:.0},\
         \"cpu_ns_per_request\":{:.0},\"cores\":{}}}",
        service.name(),
        requests_per_s,
        (cpu_ns() - cpu_start_ns) as f64 / request_len as f64,
        thread::available_parallelism().map_or(1, usize::from)
    );
    requests_per_s
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

/// Processor time of all threads of this process so far; 0 where the system does not say.
fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in brackets; user and system time are the 12th and 13th field, in 1/100 s.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>() * 10_000_000
}

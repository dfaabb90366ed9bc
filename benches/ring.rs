//! What the ring costs beside what a service would build from crates, one JSON object a line.
//!
//! `cargo bench --bench ring` measures throughput (lease, write an image of 3,072 bytes, commit,
//! take, read a word of it, release), the latency of a single request to a spinning consumer, what
//! a look at an empty ring costs, and how many copies a chunk takes after slots have been released
//! out of order. `--test` runs each shortly. Peers: a bounded channel of pooled boxes, and two
//! queues of slot numbers. `cpu_ns_per_request` counts the processor time of all threads, which a
//! machine busy with other work changes less than the clock's.

use std::hint;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use crossbeam_queue::ArrayQueue;
use twinstream::ring::{Consumer, Ring, RingOptions, Slot};

/// A 32x32 RGB image.
const IMAGE_BYTES: usize = 3072;
const SLOT_LEN: u32 = 1024;
/// Taken slots are released this many at a time, as a batch would be.
const BATCH_LEN: usize = 32;

/// One way to bring images from producers to a consumer.
trait Pipe: Sync {
    /// Fills an image by `write` and passes it on; false when there is no room.
    fn submit(&self, write: impl FnOnce(&mut [u8])) -> bool;
    /// The consumer's end; called once, by the consuming thread.
    fn taker(&self) -> impl Taker;
}

trait Taker {
    /// Takes the next image and reads it by `read`; false when there is none.
    fn take(&mut self, read: impl FnOnce(&[u8])) -> bool;
}

struct Ours {
    ring: Ring<u64>,
    consumer: Mutex<Option<Consumer<u64>>>,
}

struct OurTaker {
    consumer: Consumer<u64>,
    ring: Ring<u64>,
    taken: Vec<Slot>,
}

impl Ours {
    fn new(slot_len: u32) -> Self {
        let (ring, consumer) =
            Ring::new(&RingOptions::new(slot_len, IMAGE_BYTES)).expect("a few MiB");
        Self { ring, consumer: Mutex::new(Some(consumer)) }
    }
}

impl Pipe for Ours {
    fn submit(&self, write: impl FnOnce(&mut [u8])) -> bool {
        let Ok(mut lease) = self.ring.lease() else { return false };
        write(&mut lease);
        lease.commit(1).expect("the consumer lives").slot < SLOT_LEN
    }

    fn taker(&self) -> impl Taker {
        let consumer = self.consumer.lock().unwrap().take().expect("one taker");
        OurTaker { consumer, ring: self.ring.clone(), taken: Vec::with_capacity(BATCH_LEN) }
    }
}

impl Taker for OurTaker {
    fn take(&mut self, read: impl FnOnce(&[u8])) -> bool {
        let taken = self.consumer.take();
        let found = taken.is_some();
        if let Some((slot, _request)) = taken {
            read(self.ring.bytes(&slot));
            self.taken.push(slot);
        }
        if self.taken.len() == BATCH_LEN {
            self.ring.release(self.taken.drain(..));
        }
        found
    }
}

type Image = Box<[u8]>;

/// A bounded channel of boxes that come back through a second one.
struct Channel {
    filled: (Sender<Image>, Receiver<Image>),
    empty: (Sender<Image>, Receiver<Image>),
}

impl Channel {
    fn new(slot_len: u32) -> Self {
        let one = Self { filled: bounded(slot_len as usize), empty: bounded(slot_len as usize) };
        for _ in 0..slot_len {
            one.empty.0.try_send(vec![0; IMAGE_BYTES].into()).expect("room for all");
        }
        one
    }
}

impl Pipe for Channel {
    fn submit(&self, write: impl FnOnce(&mut [u8])) -> bool {
        let Ok(mut image) = self.empty.1.try_recv() else { return false };
        write(&mut image);
        self.filled.0.try_send(image).is_ok()
    }

    fn taker(&self) -> impl Taker {
        self
    }
}

impl Taker for &Channel {
    fn take(&mut self, read: impl FnOnce(&[u8])) -> bool {
        let Ok(image) = self.filled.1.try_recv() else { return false };
        read(&image);
        self.empty.0.try_send(image).is_ok()
    }
}

/// Slot numbers in two array queues; the slots' locks are never contended and stand in for the
/// `unsafe` that a faster build of this would need.
struct Queues {
    slots: Vec<Mutex<Image>>,
    filled: ArrayQueue<u32>,
    empty: ArrayQueue<u32>,
}

impl Queues {
    fn new(slot_len: u32) -> Self {
        let empty = ArrayQueue::new(slot_len as usize);
        (0..slot_len).for_each(|slot| empty.push(slot).expect("room for all"));
        let slots = (0..slot_len).map(|_| Mutex::new(vec![0; IMAGE_BYTES].into())).collect();
        Self { slots, filled: ArrayQueue::new(slot_len as usize), empty }
    }
}

impl Pipe for Queues {
    fn submit(&self, write: impl FnOnce(&mut [u8])) -> bool {
        let Some(slot) = self.empty.pop() else { return false };
        write(&mut self.slots[slot as usize].lock().unwrap());
        self.filled.push(slot).is_ok()
    }

    fn taker(&self) -> impl Taker {
        self
    }
}

impl Taker for &Queues {
    fn take(&mut self, read: impl FnOnce(&[u8])) -> bool {
        let Some(slot) = self.filled.pop() else { return false };
        read(&self.slots[slot as usize].lock().unwrap());
        self.empty.push(slot).is_ok()
    }
}

/// What a producer writes: the request's number in front, then its image.
fn write_image(image: &mut [u8], source: &[u8], number: u64) {
    image.copy_from_slice(source);
    image[..8].copy_from_slice(&number.to_le_bytes());
}

fn number_of(image: &[u8]) -> u64 {
    u64::from_le_bytes(image[..8].try_into().expect("8 bytes"))
}

/// Processor time of this process so far, its ended threads included, in steps of 10 ms; 0 where
/// the system does not say.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The command's name, in parentheses, may hold spaces; user and system time are the 12th and
    // 13th field after it, in hundredths.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Requests a second from `producers` threads to one consumer; all requests are counted and summed.
fn throughput(name: &str, pipe: &impl Pipe, producers: u64, len: u64) {
    let source = [7; IMAGE_BYTES];
    let each = len / producers;
    let (start, start_cpu_s) = (Instant::now(), cpu_s());
    thread::scope(|scope| {
        for producer in 0..producers {
            scope.spawn(move || {
                for number in producer * each..(producer + 1) * each {
                    while !pipe.submit(|image| write_image(image, &source, number)) {
                        thread::yield_now();
                    }
                }
            });
        }
        let mut taker = pipe.taker();
        let (mut taken, mut sum) = (0, 0);
        while taken < producers * each {
            if taker.take(|image| sum += number_of(image)) {
                taken += 1;
            } else {
                thread::yield_now();
            }
        }
        let total = producers * each;
        assert_eq!(sum, total * (total - 1) / 2, "{name}: requests were lost or doubled");
    });
    let (seconds, cpu_s) = (start.elapsed().as_secs_f64(), cpu_s() - start_cpu_s);
    println!(
        "{{\"bench\":\"throughput\",\"pipe\":\"{name}\",\"producers\":{producers},\
         \"image_bytes\":{IMAGE_BYTES},\"slots\":{SLOT_LEN},\"requests\":{},\
         \"requests_per_s\":{:.0},\"cpu_ns_per_request\":{:.0}}}",
        producers * each,
        (producers * each) as f64 / seconds,
        cpu_s * 1e9 / (producers * each) as f64
    );
}

/// All steps in turn on one thread: what a request costs without a second core.
fn one_thread(name: &str, pipe: &impl Pipe, len: u64) {
    let source = [7; IMAGE_BYTES];
    let mut taker = pipe.taker();
    let (start, start_cpu_s) = (Instant::now(), cpu_s());
    let mut sum = 0;
    for number in 0..len {
        assert!(pipe.submit(|image| write_image(image, &source, number)));
        assert!(taker.take(|image| sum += number_of(image)));
    }
    let (seconds, cpu_s) = (start.elapsed().as_secs_f64(), cpu_s() - start_cpu_s);
    assert_eq!(sum, len * (len - 1) / 2);
    println!(
        "{{\"bench\":\"one_thread\",\"pipe\":\"{name}\",\"image_bytes\":{IMAGE_BYTES},\
         \"requests\":{len},\"requests_per_s\":{:.0},\"cpu_ns_per_request\":{:.0}}}",
        len as f64 / seconds,
        cpu_s * 1e9 / len as f64
    );
}

/// From before the lease to the consumer's having read the image, one request at a time, the
/// consumer spinning.
fn latency(name: &str, pipe: &impl Pipe, len: u64) {
    let source = [7; IMAGE_BYTES];
    let start = Instant::now();
    let now_ns = || start.elapsed().as_nanos() as u64;
    let (answered, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut times: Vec<u64> = thread::scope(|scope| {
        scope.spawn(|| {
            let mut taker = pipe.taker();
            while !done.load(Ordering::Relaxed) {
                let taken = taker.take(|image| {
                    hint::black_box(number_of(image));
                    answered.store(now_ns(), Ordering::Release);
                });
                if !taken {
                    hint::spin_loop();
                }
            }
        });
        let times = (0..len)
            .map(|number| {
                answered.store(0, Ordering::Relaxed);
                let begin_ns = now_ns();
                assert!(pipe.submit(|image| write_image(image, &source, number)));
                loop {
                    match answered.load(Ordering::Acquire) {
                        0 => hint::spin_loop(),
                        end_ns => break end_ns.saturating_sub(begin_ns),
                    }
                }
            })
            .collect();
        done.store(true, Ordering::Relaxed);
        times
    });
    times.sort_unstable();
    let quantile = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{{\"bench\":\"latency\",\"pipe\":\"{name}\",\"slots\":{SLOT_LEN},\
         \"image_bytes\":{IMAGE_BYTES},\"requests\":{len},\
         \"min_ns\":{},\"p50_ns\":{},\"p99_ns\":{}}}",
        times[0],
        quantile(0.5),
        quantile(0.99)
    );
}

/// What the consumer pays to find an empty ring empty.
fn idle_look(slot_len: u32, len: u32) {
    let (_ring, mut consumer) =
        Ring::<u64>::new(&RingOptions::new(slot_len, 64)).expect("a few MiB");
    let start = Instant::now();
    for _ in 0..len {
        assert!(hint::black_box(&mut consumer).take().is_none());
    }
    let ns = start.elapsed().as_secs_f64() * 1e9 / f64::from(len);
    println!("{{\"bench\":\"idle_look\",\"slots\":{slot_len},\"looks\":{len},\"ns\":{ns:.1}}}");
}

/// Copies that a chunk of 8 takes once slots have long been released out of order: ours against
/// slot numbers that pass through a queue. The order is the same for both.
fn copies_per_chunk(chunks: u32) {
    const CHUNK_LEN: usize = 8;
    /// One released chunk in so many is held back for a while, as a low priority would be.
    const LATE_ONE_IN: u32 = 4;
    let (ring, mut consumer) = {
        let ours = Ours::new(256);
        let consumer = ours.consumer.lock().unwrap().take().expect("one taker");
        (ours.ring, consumer)
    };
    let free: ArrayQueue<u32> = ArrayQueue::new(256);
    (0..256).for_each(|slot| free.push(slot).expect("room for all"));
    let (mut late_slots, mut late_numbers) = (Vec::<Slot>::new(), Vec::<u32>::new());
    let (mut ring_copies, mut queue_copies, mut counted) = (0, 0, 0);
    for chunk in 0..chunks {
        let mut slots = Vec::with_capacity(CHUNK_LEN);
        for _ in 0..CHUNK_LEN {
            ring.lease().expect("most are free").commit(0).expect("the consumer lives");
            slots.push(consumer.take().expect("just committed").0);
        }
        let mut numbers: Vec<u32> =
            (0..CHUNK_LEN).map(|_| free.pop().expect("most are free")).collect();
        // The second half: the first turns begin sorted.
        if chunk >= chunks / 2 {
            slots.sort_unstable();
            numbers.sort_unstable();
            ring_copies += ring.runs(&slots).count();
            queue_copies += numbers.chunk_by(|one, next| one + 1 == *next).count();
            counted += 1;
        }
        if chunk % LATE_ONE_IN == 0 {
            ring.release(late_slots.drain(..));
            late_numbers.drain(..).for_each(|slot| free.push(slot).expect("room for all"));
        }
        late_slots.push(slots.swap_remove(chunk as usize % CHUNK_LEN));
        late_numbers.push(numbers.swap_remove(chunk as usize % CHUNK_LEN));
        ring.release(slots);
        numbers.into_iter().for_each(|slot| free.push(slot).expect("room for all"));
    }
    println!(
        "{{\"bench\":\"copies_per_chunk\",\"chunk\":{CHUNK_LEN},\"slots\":256,\"chunks\":{counted},\
         \"twinstream\":{:.2},\"queue_of_slots\":{:.2}}}",
        ring_copies as f64 / f64::from(counted),
        queue_copies as f64 / f64::from(counted)
    );
}

fn main() {
    let test_mode = std::env::args().any(|word| word == "--test");
    let scale = if test_mode { 1000 } else { 1 };
    for _ in 0..if test_mode { 1 } else { 3 } {
        for producers in [1, 3] {
            let len = 2_000_000 / scale;
            throughput("twinstream", &Ours::new(SLOT_LEN), producers, len);
            throughput("crossbeam-channel", &Channel::new(SLOT_LEN), producers, len);
            throughput("crossbeam-queue", &Queues::new(SLOT_LEN), producers, len);
        }
        one_thread("twinstream", &Ours::new(SLOT_LEN), 2_000_000 / scale);
        one_thread("crossbeam-channel", &Channel::new(SLOT_LEN), 2_000_000 / scale);
        one_thread("crossbeam-queue", &Queues::new(SLOT_LEN), 2_000_000 / scale);
        latency("twinstream", &Ours::new(SLOT_LEN), 100_000 / scale);
        latency("crossbeam-channel", &Channel::new(SLOT_LEN), 100_000 / scale);
        latency("crossbeam-queue", &Queues::new(SLOT_LEN), 100_000 / scale);
    }
    for slot_len in [64, SLOT_LEN, 65_536] {
        idle_look(slot_len, 1_000_000 / scale as u32 / slot_len.div_ceil(256));
    }
    copies_per_chunk(100_000 / scale as u32);
}

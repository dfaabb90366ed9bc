//! A limited number of threads that decode image files, behind a queue with a limit.
//!
//! Invariant: whoever asks waits for no more files than the queue holds, or is refused at once; a
//! file gives way to others the longer the more work it is, and for a limited time. Knows nothing
//! of protocols and engines.

use std::cmp::{self, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::iter::Enumerate;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::vec::IntoIter;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task;
use twinstream::image::{self, DecodeOptions, Preprocess, Rgb8, decode_with};

use crate::problem::{Cause, Problem};

/// Files that wait or are decoded, for each thread, beside those of one request.
const QUEUE_LEN: usize = 64;
/// After which one is likely to be decoded that is refused now, at least.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(100);
/// What decoding takes for each pixel, or for each byte where these are more: 10 to 50 ns.
const WORK_NS: u64 = 30;
/// A file gives way to those that come later by so many times its own work and have less, …
const YIELD_WORK: u64 = 100;
/// … but no longer than this: a third of the time that a request has by default.
const YIELD_NS_MAX: u64 = 10_000_000_000;

/// See the module.
pub struct Decoder {
    preprocess: Preprocess,
    options: DecodeOptions,
    threads: usize,
    /// Places of the queue.
    places: Arc<Semaphore>,
    queue: Arc<Queue>,
}

impl Decoder {
    /// For a runtime with so many threads that may block, and with no other use for them; a request
    /// has so many files at most.
    pub fn new(
        preprocess: Preprocess,
        options: DecodeOptions,
        threads: usize,
        len_max: usize,
    ) -> Self {
        let places = Arc::new(Semaphore::new(len_max + threads * QUEUE_LEN));
        let queue = Arc::new(Queue {
            start: Instant::now(),
            files: Mutex::default(),
            left_ns: AtomicU64::new(0),
            busy_ns: AtomicU64::new(0),
        });
        Self { preprocess, options, threads, places, queue }
    }

    /// How long what waits will take to be decoded, about.
    pub fn predicted_wait(&self) -> Duration {
        let left_ns = self.queue.left_ns.load(Ordering::Relaxed);
        Duration::from_nanos(left_ns / self.threads as u64)
    }

    /// Time that its threads have worked, over their number.
    pub fn busy(&self) -> Duration {
        let busy_ns = self.queue.busy_ns.load(Ordering::Relaxed);
        Duration::from_nanos(busy_ns / self.threads as u64)
    }

    /// Decodes, resizes and crops the files of a request: u8 RGB, height x width x 3 each.
    pub fn start(&self, files: Vec<Bytes>) -> Result<Decodings<'_>, Problem> {
        let places = Arc::clone(&self.places).try_acquire_many_owned(files.len() as u32);
        let full = |_| {
            let retry_after = self.predicted_wait().max(RETRY_AFTER_MIN);
            let text = "too many image files wait to be decoded: send them later";
            Problem::new(Cause::Overload { retry_after }, text)
        };
        let places = places.map_err(full)?;
        let files = files.into_iter().enumerate();
        Ok(Decodings { decoder: self, files, places, begun: VecDeque::new() })
    }
}

/// Files that no thread has begun with.
struct Queue {
    start: Instant,
    files: Mutex<BinaryHeap<Waiting>>,
    /// Work of these and of those that are being decoded, as their headers let it be guessed.
    left_ns: AtomicU64,
    /// Time that was spent on others.
    busy_ns: AtomicU64,
}

/// A file in the queue.
struct Waiting {
    /// When it goes before all that come later, in nanoseconds since the start.
    turn_ns: u64,
    bytes: Bytes,
    decoded: oneshot::Sender<Result<Rgb8, twinstream::Error>>,
    work: Work,
    _place: OwnedSemaphorePermit,
}

/// Work that is left, until it is dropped.
struct Work {
    queue: Arc<Queue>,
    guess_ns: u64,
}

impl Work {
    fn new(queue: &Arc<Queue>, file: &Bytes, options: &DecodeOptions) -> Self {
        let size = image::dimensions(file).unwrap_or_default();
        let pixel_len = size.0.saturating_mul(size.1);
        // Those of too many pixels are refused by their header.
        let pixel_len = if pixel_len > options.pixels_max { 0 } else { pixel_len };
        let guess_ns = WORK_NS * pixel_len.max(file.len()) as u64;
        // Relaxed: a count, and no other memory goes with it.
        queue.left_ns.fetch_add(guess_ns, Ordering::Relaxed);
        Self { queue: Arc::clone(queue), guess_ns }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.queue.left_ns.fetch_sub(self.guess_ns, Ordering::Relaxed);
    }
}

impl Queue {
    /// Puts a file there, for which [`Queue::take`] is to be called once.
    fn put(&self, bytes: Bytes, work: Work, place: OwnedSemaphorePermit) -> Decoding {
        let (decoded, decoding) = oneshot::channel();
        let since_start_ns = self.start.elapsed().as_nanos() as u64;
        let turn_ns = since_start_ns + (work.guess_ns * YIELD_WORK).min(YIELD_NS_MAX);
        let file = Waiting { turn_ns, bytes, decoded, work, _place: place };
        self.lock().push(file);
        decoding
    }

    /// Lets go of files that nobody waits for any more.
    fn forget(&self) {
        self.lock().retain(|file| !file.decoded.is_closed());
    }

    /// The file whose turn is next, if it was not let go.
    fn take(&self) -> Option<Waiting> {
        self.lock().pop()
    }

    fn lock(&self) -> MutexGuard<'_, BinaryHeap<Waiting>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// On a thread that may block.
    fn decode(self, options: &DecodeOptions, preprocess: &Preprocess) {
        // Else nobody waits for it any more.
        if !self.decoded.is_closed() {
            let start = Instant::now();
            let decoded = decode_with(&self.bytes, options);
            let input = decoded.and_then(|image| preprocess.apply(&image));
            let busy_ns = start.elapsed().as_nanos() as u64;
            self.work.queue.busy_ns.fetch_add(busy_ns, Ordering::Relaxed);
            let _ = self.decoded.send(input);
        }
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        Reverse(self.turn_ns).cmp(&Reverse(other.turn_ns))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.turn_ns == other.turn_ns
    }
}

impl Eq for Waiting {}

/// A file that will be decoded. Once this is dropped, no thread begins with it.
type Decoding = oneshot::Receiver<Result<Rgb8, twinstream::Error>>;

/// The files of a request, in their order. No more of them than there are threads wait for one at a
/// time, so that the files of others come in between.
pub struct Decodings<'a> {
    decoder: &'a Decoder,
    files: Enumerate<IntoIter<Bytes>>,
    places: OwnedSemaphorePermit,
    begun: VecDeque<(usize, Decoding)>,
}

impl Decodings<'_> {
    /// The pixels of the next file.
    ///
    /// # Panics
    /// When there is none.
    pub async fn next(&mut self) -> Result<Vec<u8>, Problem> {
        let room = self.decoder.threads - self.begun.len();
        for (index, file) in self.files.by_ref().take(room) {
            let place = self.places.split(1).expect("a place for each file");
            let Decoder { options, preprocess, queue, .. } = self.decoder;
            let work = Work::new(queue, &file, options);
            self.begun.push_back((index, queue.put(file, work, place)));
            let (options, preprocess, queue) = (*options, *preprocess, Arc::clone(queue));
            task::spawn_blocking(move || {
                if let Some(file) = queue.take() {
                    file.decode(&options, &preprocess);
                }
            });
        }
        // Left in place while it is awaited: a caller that gives up drops it with the others.
        let (index, decoding) = self.begun.front_mut().expect("a file is left");
        let (index, decoded) = (*index, decoding.await);
        self.begun.pop_front();
        match decoded {
            Ok(Ok(image)) => Ok(image.into_pixels()),
            Ok(Err(error)) => Err(Problem::argument(format!("image file {index}: {error}"))),
            Err(_) => {
                let text = format!("image file {index}: its decoder ended without an answer");
                Err(Problem::new(Cause::Failed, text))
            }
        }
    }
}

impl Drop for Decodings<'_> {
    /// What was not awaited to its end keeps neither places nor memory.
    fn drop(&mut self) {
        if !self.begun.is_empty() {
            self.begun.clear();
            self.decoder.queue.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::runtime::Builder;
    use tokio::time::timeout;
    use twinstream::model::ModelConfig;

    use super::*;

    /// With one thread, which is busy until what is returned is dropped.
    async fn stuck(len_max: usize) -> (Decoder, mpsc::Sender<()>) {
        let (go, may_go) = mpsc::channel::<()>();
        task::spawn_blocking(move || may_go.recv());
        let preprocess = Preprocess::for_model(&ModelConfig::default());
        (Decoder::new(preprocess, DecodeOptions::default(), 1, len_max), go)
    }

    fn block_on(test: impl Future<Output = ()>) {
        let runtime = Builder::new_current_thread().enable_time().max_blocking_threads(1).build();
        runtime.unwrap().block_on(test);
    }

    async fn wait_in_vain(decodings: &mut Decodings<'_>) {
        assert!(timeout(Duration::ZERO, decodings.next()).await.is_err());
    }

    #[test]
    fn files_that_nobody_waits_for_leave_their_places() {
        block_on(async {
            let (decoder, go) = stuck(1).await;
            let file = || vec![Bytes::from_static(b"no image")];
            let mut waiting = Vec::new();
            for _ in 0..QUEUE_LEN + 1 {
                let mut decodings = decoder.start(file()).unwrap();
                wait_in_vain(&mut decodings).await;
                waiting.push(decodings);
            }
            assert!(decoder.start(file()).is_err());
            drop(waiting);
            assert_eq!(decoder.predicted_wait(), Duration::ZERO);
            let mut last = decoder.start(file()).unwrap();
            drop(go);
            assert!(last.next().await.unwrap_err().text.starts_with("image file 0: "));
        });
    }

    /// However many threads there are, and while others wait.
    #[test]
    fn the_longest_request_finds_places() {
        block_on(async {
            let (decoder, _go) = stuck(256).await;
            let files = |len| vec![Bytes::from_static(b"no image"); len];
            let mut other = decoder.start(files(1)).unwrap();
            wait_in_vain(&mut other).await;
            assert!(decoder.start(files(256)).is_ok());
        });
    }

    /// Goal: what is much work gives way to what is little, whatever its length. Method: the header
    /// of a PNG of many pixels, which would be refused once it is decoded.
    #[test]
    fn work_is_told_by_pixels() {
        block_on(async {
            let (decoder, _go) = stuck(1).await;
            let mut many = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
            many.extend([4_000_u32, 3_000].iter().flat_map(|side| side.to_be_bytes()));
            let mut many = decoder.start(vec![many.into()]).unwrap();
            wait_in_vain(&mut many).await;
            assert_eq!(decoder.predicted_wait(), Duration::from_millis(360));
            let mut few = decoder.start(vec![Bytes::from_static(&[0; 1_000])]).unwrap();
            wait_in_vain(&mut few).await;
            let next = decoder.queue.take().unwrap();
            assert_eq!(next.bytes.len(), 1_000);
            // For a limited time.
            let next = decoder.queue.take().unwrap();
            assert!(next.turn_ns <= 1_000_000_000 + YIELD_NS_MAX, "{}", next.turn_ns);
        });
    }
}

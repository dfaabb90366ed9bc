//! A limited number of threads that decode image files, behind a queue with a limit.
//!
//! Invariant: whoever asks waits for no more files than the queue holds, or is refused at once; a
//! file waits the longer for others the larger it is, and no file for ever. Knows nothing of
//! protocols and engines.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::iter::Enumerate;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::vec::IntoIter;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task;
use twinstream::image::{DecodeOptions, Preprocess, Rgb8, decode_with};

use crate::problem::{Cause, Problem};

/// Files that wait or are decoded, for each thread.
const QUEUE_LEN: usize = 64;
/// After which one is likely to be decoded that is refused now.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// A file gives way to those that come so much later for each of its bytes and need less time: some
/// hundred times as long as it takes to be decoded, 10 to 50 ns a byte.
const YIELD_NS: u64 = 5_000;

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
    /// For a runtime with so many threads that may block, and with no other use for them.
    pub fn new(preprocess: Preprocess, options: DecodeOptions, threads: usize) -> Self {
        let places = Arc::new(Semaphore::new(threads * QUEUE_LEN));
        let start = Instant::now();
        let queue = Arc::new(Queue { start, files: Mutex::default() });
        Self { preprocess, options, threads, places, queue }
    }

    /// Decodes, resizes and crops the files of a request: u8 RGB, height x width x 3 each.
    pub fn start(&self, files: Vec<Bytes>) -> Result<Decodings<'_>, Problem> {
        let acquire = || Arc::clone(&self.places).try_acquire_many_owned(files.len() as u32);
        let places = acquire().or_else(|_| {
            self.queue.forget();
            acquire()
        });
        let full = |_| {
            let cause = Cause::Overload { retry_after: RETRY_AFTER };
            Problem::new(cause, "too many image files wait to be decoded: send them later")
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
}

/// A file in the queue.
struct Waiting {
    /// When it goes before all that come later, in nanoseconds since the start.
    turn_ns: u64,
    bytes: Bytes,
    decoded: oneshot::Sender<Result<Rgb8, twinstream::Error>>,
    _place: OwnedSemaphorePermit,
}

impl Queue {
    /// Puts a file there, for which [`Queue::take`] is to be called once.
    fn put(&self, bytes: Bytes, place: OwnedSemaphorePermit) -> Decoding {
        let (decoded, decoding) = oneshot::channel();
        let since_start_ns = self.start.elapsed().as_nanos() as u64;
        let turn_ns = since_start_ns + bytes.len() as u64 * YIELD_NS;
        let file = Waiting { turn_ns, bytes, decoded, _place: place };
        self.files.lock().unwrap_or_else(PoisonError::into_inner).push(file);
        decoding
    }

    /// Lets go of files that nobody waits for any more.
    fn forget(&self) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|file| !file.decoded.is_closed());
    }

    /// The file whose turn is next, if it was not let go.
    fn take(&self) -> Option<Waiting> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        Reverse(self.turn_ns).cmp(&Reverse(other.turn_ns))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
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
            self.begun.push_back((index, queue.put(file, place)));
            let (options, preprocess, queue) = (*options, *preprocess, Arc::clone(queue));
            task::spawn_blocking(move || {
                let Some(file) = queue.take() else { return };
                // Else nobody waits for it any more.
                if !file.decoded.is_closed() {
                    let decoded = decode_with(&file.bytes, &options);
                    let input = decoded.and_then(|image| preprocess.apply(&image));
                    let _ = file.decoded.send(input);
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::runtime::Builder;
    use tokio::time::timeout;
    use twinstream::model::ModelConfig;

    use super::*;

    #[test]
    fn files_that_nobody_waits_for_leave_their_places() {
        let runtime = Builder::new_current_thread().enable_time().max_blocking_threads(1).build();
        runtime.unwrap().block_on(async {
            let (go, may_go) = mpsc::channel::<()>();
            let busy = task::spawn_blocking(move || may_go.recv());
            let preprocess = Preprocess::for_model(&ModelConfig::default());
            let decoder = Decoder::new(preprocess, DecodeOptions::default(), 1);
            let file = || vec![Bytes::from_static(b"no image")];
            let mut waiting = Vec::new();
            for _ in 0..QUEUE_LEN {
                let mut decodings = decoder.start(file()).unwrap();
                assert!(timeout(Duration::ZERO, decodings.next()).await.is_err());
                waiting.push(decodings);
            }
            assert!(decoder.start(file()).is_err());
            drop(waiting);
            let mut last = decoder.start(file()).unwrap();
            drop(go);
            busy.await.unwrap().unwrap_err();
            assert!(last.next().await.unwrap_err().text.starts_with("image file 0: "));
        });
    }
}

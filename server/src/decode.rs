//! A limited number of threads that decode image files, behind a queue with a limit.
//!
//! Invariant: whoever asks waits for no more files than the queue holds, or is refused at once.
//! Knows nothing of protocols and engines.

use std::collections::VecDeque;
use std::iter::Enumerate;
use std::sync::Arc;
use std::time::Duration;
use std::vec::IntoIter;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{self, JoinHandle};
use twinstream::image::{DecodeOptions, Preprocess, Rgb8, decode_with};

use crate::problem::{Cause, Problem};

/// Files that wait or are decoded, for each thread.
const QUEUE_LEN: usize = 64;
/// After which one is likely to be decoded that is refused now.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// See the module.
pub struct Decoder {
    preprocess: Preprocess,
    options: DecodeOptions,
    threads: usize,
    /// Places of the queue.
    queue: Arc<Semaphore>,
}

impl Decoder {
    /// For a runtime with so many threads that may block, and with no other use for them.
    pub fn new(preprocess: Preprocess, options: DecodeOptions, threads: usize) -> Self {
        let queue = Arc::new(Semaphore::new(threads * QUEUE_LEN));
        Self { preprocess, options, threads, queue }
    }

    /// Decodes, resizes and crops the files of a request: u8 RGB, height x width x 3 each.
    pub fn start(&self, files: Vec<Bytes>) -> Result<Decodings<'_>, Problem> {
        let places = Arc::clone(&self.queue).try_acquire_many_owned(files.len() as u32);
        let full = |_| {
            let cause = Cause::Overload { retry_after: RETRY_AFTER };
            Problem::new(cause, "too many image files wait to be decoded: send them later")
        };
        let places = places.map_err(full)?;
        let files = files.into_iter().enumerate();
        Ok(Decodings { decoder: self, files, places, begun: VecDeque::new() })
    }
}

/// The files of a request, in their order. No more of them than there are threads wait for one at a
/// time, so that the files of others come in between.
pub struct Decodings<'a> {
    decoder: &'a Decoder,
    files: Enumerate<IntoIter<Bytes>>,
    places: OwnedSemaphorePermit,
    begun: VecDeque<Decoding>,
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
            let (options, preprocess) = (self.decoder.options, self.decoder.preprocess);
            let task = task::spawn_blocking(move || {
                let _place = place;
                preprocess.apply(&decode_with(&file, &options)?)
            });
            self.begun.push_back(Decoding { index, task });
        }
        self.begun.pop_front().expect("a file is left").pixels().await
    }
}

/// A file that is being decoded. Dropping it forgets those that no thread has begun with.
struct Decoding {
    /// Its place in its request.
    index: usize,
    task: JoinHandle<Result<Rgb8, twinstream::Error>>,
}

impl Decoding {
    async fn pixels(mut self) -> Result<Vec<u8>, Problem> {
        let index = self.index;
        match (&mut self.task).await {
            Ok(Ok(image)) => Ok(image.into_pixels()),
            Ok(Err(error)) => Err(Problem::argument(format!("image file {index}: {error}"))),
            Err(panic) => Err(Problem::new(Cause::Failed, format!("image file {index}: {panic}"))),
        }
    }
}

impl Drop for Decoding {
    fn drop(&mut self) {
        self.task.abort();
    }
}

//! An engine and what clients are told of it, and how a request goes through it.
//!
//! Invariant: a request holds slots of the engine only once all its bytes are here, and a client
//! that leaves cancels it. Knows images and wishes, no protocol.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use twinstream::engine::{
    DeviceStats, Engine, Failure, Lease, ManyLease, Output, Refused, RequestOptions,
};
use twinstream::image::{DecodeOptions, Preprocess};
use twinstream::model::{Model, top_k};
use twinstream::sched::Timing;

use crate::decode::{Decoder, Decodings};
use crate::images::{Images, Limits};
use crate::problem::{Cause, Problem};
use crate::shared_memory::Regions;

/// How long a prediction of the wait is used before the engine is asked again.
const PREDICTION_AGE: Duration = Duration::from_millis(10);
/// Of a wait that a refusal tells, at least: the engine's counts are this old.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(1);

/// Most pixels of an image file, unless it is said otherwise: those of cameras. They take 0.2 GB to
/// decode, and three times as much in 16-bit RGBA.
const PIXELS_MAX: usize = 50_000_000;

/// A network as clients see it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Served {
    /// The model's name in requests.
    pub name: String,
    /// How an image file becomes an input of the engine's size.
    pub preprocess: Preprocess,
    /// What is decoded, and what is refused.
    pub decode: DecodeOptions,
    /// A name for each class; empty: classes have numbers alone.
    pub labels: Vec<String>,
}

impl Served {
    /// That of a model, at this input size.
    pub fn of_model(name: &str, model: &Model, height: usize, width: usize) -> Self {
        let preprocess = Preprocess { height, width, ..Preprocess::for_model(model.config()) };
        let labels = (0..model.class_count()).map(|index| model.label(index)).collect();
        Self { labels, ..Self::of_size(name, preprocess) }
    }

    /// That of a backend which computes no network, with images of this size.
    pub fn of_size(name: &str, preprocess: Preprocess) -> Self {
        let decode = DecodeOptions::default().pixels_max(PIXELS_MAX);
        Self { name: name.to_owned(), preprocess, decode, labels: Vec::new() }
    }
}

/// See the module.
pub struct App {
    pub engine: Engine,
    pub name: String,
    pub limits: Limits,
    /// Where clients may have images and results.
    pub regions: Regions,
    labels: Vec<String>,
    decoder: Decoder,
    /// The engine's own, to tell it from the deadlines of clients.
    latency_bound: Option<Duration>,
    is_ending: AtomicBool,
    /// The wait that was predicted last, and when.
    wait: Mutex<(Instant, Duration)>,
}

/// A request whose body is here.
#[derive(Clone, Copy)]
struct Asked {
    options: RequestOptions,
    since: Instant,
}

/// An answer to a request.
pub struct Answered {
    /// Image by image.
    pub logits: Vec<f32>,
    pub len: usize,
    /// That of the first image.
    pub timing: Timing,
}

impl App {
    /// For a runtime with so many threads that may block; `latency_bound` is the engine's.
    pub fn new(
        engine: Engine,
        served: Served,
        regions: Regions,
        threads: usize,
        latency_bound: Option<Duration>,
    ) -> Self {
        let Served { name, preprocess, decode, labels } = served;
        let len_max = engine.geometry().batch_len_max;
        let limits = Limits { height: preprocess.height, width: preprocess.width, len_max };
        Self {
            engine,
            name,
            limits,
            regions,
            labels,
            decoder: Decoder::new(preprocess, decode, threads, len_max),
            latency_bound,
            is_ending: AtomicBool::new(false),
            wait: Mutex::new((Instant::now(), Duration::ZERO)),
        }
    }

    pub fn class_count(&self) -> usize {
        self.engine.geometry().result_len
    }

    /// Whether further requests will be answered.
    pub fn is_ready(&self) -> bool {
        !self.is_ending() && self.engine.refusal().is_none()
    }

    pub fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }

    /// From here on it says that it is not ready, and still answers.
    pub fn end(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
    }

    /// Refuses other models.
    pub fn check_model(&self, name: &str, version: &str) -> Result<(), Problem> {
        if name != self.name {
            let text = format!("no model `{name}`: there is `{}`", self.name);
            return Err(Problem::new(Cause::NotFound, text));
        }
        match version {
            "" | VERSION => Ok(()),
            _ => {
                let text = format!("no version `{version}` of `{name}`: there is {VERSION}");
                Err(Problem::new(Cause::NotFound, text))
            }
        }
    }

    /// Computes the logits of each image.
    pub async fn infer(
        &self,
        images: Images,
        options: RequestOptions,
    ) -> Result<Answered, Problem> {
        let asked = Asked { options, since: Instant::now() };
        match images {
            Images::Pixels { bytes, len: 1 } => {
                let mut lease = self.lease()?;
                lease.copy_from_slice(&bytes);
                self.answer_one(lease, asked).await
            }
            Images::Pixels { bytes, len } => {
                let mut lease = self.lease_many(len)?;
                let images = bytes.chunks_exact(bytes.len() / len);
                lease
                    .images_mut()
                    .zip(images)
                    .for_each(|(slot, image)| slot.copy_from_slice(image));
                self.answer_many(lease, asked).await
            }
            Images::Files(files) => self.infer_files(files, asked).await,
        }
    }

    /// Leases come first: what has no room is refused before it is decoded, and the scheduler knows
    /// what is about to come.
    async fn infer_files(&self, files: Vec<Bytes>, asked: Asked) -> Result<Answered, Problem> {
        if files.len() == 1 {
            let mut lease = self.lease()?;
            let mut decodings = self.decoder.start(files)?;
            lease.copy_from_slice(&self.decoded(&mut decodings, asked).await?);
            return self.answer_one(lease, asked).await;
        }
        let mut lease = self.lease_many(files.len())?;
        let mut decodings = self.decoder.start(files)?;
        for slot in lease.images_mut() {
            slot.copy_from_slice(&self.decoded(&mut decodings, asked).await?);
        }
        self.answer_many(lease, asked).await
    }

    fn lease(&self) -> Result<Lease, Problem> {
        self.engine.lease().map_err(|refused| self.refused(refused))
    }

    fn lease_many(&self, len: usize) -> Result<ManyLease, Problem> {
        self.engine.lease_many(len).map_err(|refused| self.refused(refused))
    }

    fn refused(&self, refused: Refused) -> Problem {
        Problem::refused(refused, || self.predicted_wait().max(RETRY_AFTER_MIN))
    }

    /// The pixels of the next file, while its request can still be answered.
    async fn decoded(
        &self,
        decodings: &mut Decodings<'_>,
        asked: Asked,
    ) -> Result<Vec<u8>, Problem> {
        let Some(due) = self.due(asked) else { return decodings.next().await };
        let decoded = tokio::time::timeout_at(due.into(), decodings.next()).await;
        decoded.unwrap_or_else(|_| {
            let text = "the deadline passed while the images were decoded";
            Err(self.late(asked).unwrap_or_else(|| Problem::new(Cause::Deadline, text)))
        })
    }

    async fn answer_one(&self, lease: Lease, asked: Asked) -> Result<Answered, Problem> {
        let options = asked.options.deadline(self.due(asked));
        let ticket = lease.commit(options).map_err(|refused| self.refused(refused))?;
        let output = ticket.await.map_err(|failure| self.failed(failure, asked))?;
        Ok(Answered { logits: output.to_vec(), len: 1, timing: *output.timing() })
    }

    async fn answer_many(&self, lease: ManyLease, asked: Asked) -> Result<Answered, Problem> {
        let options = asked.options.deadline(self.due(asked));
        let ticket = lease.commit(options).map_err(|refused| self.refused(refused))?;
        let outputs = ticket.await.collect::<Result<Vec<Output>, _>>();
        let outputs = outputs.map_err(|failure| self.failed(failure, asked))?;
        let logits = outputs.iter().flat_map(|output| output.iter().copied()).collect();
        Ok(Answered { logits, len: outputs.len(), timing: *outputs[0].timing() })
    }

    /// By when it must be answered: for the client, and for the bound on all.
    fn due(&self, asked: Asked) -> Option<Instant> {
        let bound = self.latency_bound.map(|bound| asked.since + bound);
        asked.options.deadline.into_iter().chain(bound).min()
    }

    fn failed(&self, failure: Failure, asked: Asked) -> Problem {
        let is_late = matches!(failure, Failure::Rejected | Failure::Expired);
        let late = is_late.then(|| self.late(asked)).flatten();
        late.unwrap_or_else(|| failure.into())
    }

    /// What misses the bound on all meets too much load; what misses the client's own deadline need
    /// not, and is none.
    fn late(&self, asked: Asked) -> Option<Problem> {
        let bound = self.latency_bound?;
        if asked.options.deadline.is_some_and(|by| by <= asked.since + bound) {
            return None;
        }
        let retry_after = self.predicted_wait().max(RETRY_AFTER_MIN);
        let text = format!("too many images wait to answer this within {bound:?}");
        Some(Problem::new(Cause::Overload { retry_after }, text))
    }

    /// How long the threads that decode have worked, over their number.
    pub fn decoders_busy(&self) -> Duration {
        self.decoder.busy()
    }

    /// How long computing what has been accepted will take.
    pub fn predicted_wait(&self) -> Duration {
        let mut wait = self.wait.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if wait.0.elapsed() > PREDICTION_AGE || wait.1.is_zero() {
            let (stats, geometry) = (self.engine.stats(), self.engine.geometry());
            // Whoever follows an equal image takes no time of its own.
            let image_len = stats.computed_len();
            let batch_len = image_len.div_ceil(geometry.batch_len_max as u64) as f64;
            let per_ns = |device: &DeviceStats| {
                let compute = device.fits.compute;
                let images_ns = image_len as f64 * compute.per_image_ns;
                1.0 / (batch_len * compute.fixed_ns + images_ns)
            };
            // Those that are left share it; without any nothing is waited for.
            let share: f64 = stats.devices.left().map(per_ns).sum();
            let wait_ns = if share > 0.0 { 1.0 / share } else { 0.0 };
            *wait = (Instant::now(), Duration::from_nanos(wait_ns as u64));
        }
        wait.1.max(self.decoder.predicted_wait())
    }

    /// The best classes of each image, as Triton writes them: value, index and, where there is one,
    /// label.
    pub fn classes(&self, answered: &Answered, len: usize) -> Vec<String> {
        let each = answered.logits.chunks_exact(self.class_count());
        let text = |logits: &[f32], index: usize| match self.labels.get(index) {
            Some(label) => format!("{:.6}:{index}:{label}", logits[index]),
            None => format!("{:.6}:{index}", logits[index]),
        };
        each.flat_map(|logits| {
            top_k(logits, len).into_iter().map(move |class| text(logits, class.index))
        })
        .collect()
    }
}

/// The one version of the model.
pub const VERSION: &str = "1";

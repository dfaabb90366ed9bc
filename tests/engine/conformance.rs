//! What the engine takes for granted of a backend, checked on each of them by the trait alone.
//!
//! Whoever polls here sleeps as the engine does: until it is woken, and no longer than
//! [`LONG`], so that a wake-up that is missing fails.

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use twinstream::backend::{
    Attachment, Backend, BackendSpec, Completion, Geometry, OpenOptions, ResultSlot,
};
use twinstream::model::Model;
use twinstream::ring::{Consumer, Ring, RingOptions, Slot};
use twinstream::sched::{Scheduler, Timing};

use super::common::{self, f32_tensor, u8_tensor, worst};

const LONG: Duration = Duration::from_secs(60);
/// Longest batch that is asked for.
const BATCH_LEN_MAX: usize = 5;
const SLOT_LEN: usize = 3 * Scheduler::DEPTH;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Images, and what they are answered with.
enum Expected {
    /// Result slots keep what they held.
    Untouched,
    /// Logits, and how far off they may be.
    Logits { pixels: Vec<u8>, logits: Vec<f32>, tolerance: f32 },
}

impl Expected {
    /// PyTorch's logits of the repository's images.
    fn of_cifar(tolerance: f32) -> Self {
        let bytes = std::fs::read(common::repository("tests/data/cifar-reference.safetensors"));
        let bytes = bytes.unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let (pixels, logits) =
            (u8_tensor(&file, "cifar_pixels"), f32_tensor(&file, "cifar_logits"));
        Self::Logits { pixels, logits, tolerance }
    }

    fn image(&self, which: usize, geometry: Geometry) -> Vec<u8> {
        match self {
            Self::Untouched => vec![which as u8; geometry.image_bytes],
            Self::Logits { pixels, .. } => {
                pixels[which * geometry.image_bytes..][..geometry.image_bytes].to_vec()
            }
        }
    }

    fn check(&self, which: usize, result: &[u8], held: u8) {
        let Self::Logits { logits, tolerance, .. } = self else {
            assert!(result.iter().all(|&byte| byte == held), "image {which}: {result:?}");
            return;
        };
        let words = result.chunks_exact(size_of::<f32>());
        let found: Vec<f32> =
            words.map(|word| f32::from_ne_bytes(word.try_into().unwrap())).collect();
        let (at, off) = worst(&found, &logits[which * found.len()..][..found.len()]);
        assert!(off <= *tolerance, "image {which}, logit {at}: off by {off}");
    }
}

/// Images in slots that a backend has, in the order of their computing.
struct Batch {
    numbers: Vec<u32>,
    which: Vec<usize>,
    slots: Vec<Slot>,
}

/// An attached backend, its rings, and which images come next.
struct Fixture<'a> {
    backend: Box<dyn Backend>,
    geometry: Geometry,
    images: Ring<()>,
    results: Ring<Timing>,
    consumer: Consumer<()>,
    expected: &'a Expected,
    next: usize,
}

impl<'a> Fixture<'a> {
    fn new(mut backend: Box<dyn Backend>, expected: &'a Expected) -> Self {
        let geometry = backend.geometry();
        assert!(geometry.image_bytes > 0 && geometry.result_len > 0);
        assert!(geometry.batch_len_max >= BATCH_LEN_MAX, "{geometry:?}");
        let ring = |slot_bytes| RingOptions::new(SLOT_LEN as u32, slot_bytes);
        let result_bytes = geometry.result_len * size_of::<f32>();
        let (mut rings, mut made) = (None, 0);
        backend.with_host_memory(&mut || {
            let images = Ring::new(&ring(geometry.image_bytes)).unwrap();
            rings = Some((images, Ring::new(&ring(result_bytes)).unwrap()));
            made += 1;
        });
        assert_eq!(made, 1, "memory is made once");
        let ((images, consumer), (results, _)) = rings.unwrap();
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let attachment = Attachment::new(&images, BATCH_LEN_MAX, Scheduler::DEPTH, waker);
        backend.attach(attachment).unwrap();
        Self { backend, geometry, images, results, consumer, expected, next: 0 }
    }

    /// Images in slots, so many, to be computed in an order that is not that of the slots.
    fn fill(&mut self, len: usize) -> Batch {
        let mut filled: Vec<(Slot, usize)> = (0..len)
            .map(|_| {
                let which = self.next;
                self.next = (self.next + 1) % 16;
                let mut lease = self.images.lease().unwrap();
                lease.copy_from_slice(&self.expected.image(which, self.geometry));
                lease.commit(()).unwrap();
                (self.consumer.take().unwrap().0, which)
            })
            .collect();
        filled.rotate_left(len / 2);
        let numbers = filled.iter().map(|(slot, _)| slot.index()).collect();
        let which = filled.iter().map(|(_, which)| *which).collect();
        let mut slots: Vec<Slot> = filled.into_iter().map(|(slot, _)| slot).collect();
        slots.sort_unstable();
        Batch { numbers, which, slots }
    }

    /// Sleeps until `poll` finds an end, which must be a good one.
    fn wait<T>(&mut self, mut poll: impl FnMut(&mut dyn Backend, &mut T) -> Option<Completion>) -> T
    where
        T: Default,
    {
        let (start, mut back) = (Instant::now(), T::default());
        loop {
            if let Some(completion) = poll(&mut *self.backend, &mut back) {
                assert!(completion.unwrap() > 0, "work takes time");
                return back;
            }
            self.backend.before_sleep();
            thread::park_timeout(LONG);
            assert!(start.elapsed() < LONG, "nobody woke the thread that polls");
        }
    }

    fn begin_upload(&mut self, batch: &mut Batch) {
        self.backend.upload(&mut batch.slots);
        assert!(batch.slots.is_empty(), "all slots are the backend's");
    }

    fn end_upload(&mut self, batch: &mut Batch) {
        batch.slots = self.wait(|backend, slots: &mut Vec<Slot>| backend.poll_upload(slots));
        let mut ascending = batch.numbers.clone();
        ascending.sort_unstable();
        let back: Vec<u32> = batch.slots.iter().map(Slot::index).collect();
        assert_eq!(back, ascending, "each slot comes back, in order");
    }

    fn end_compute(&mut self) {
        self.wait(|backend, (): &mut ()| backend.poll_compute());
    }

    /// What the result slots hold before, and their numbers.
    fn begin_download(&mut self, batch: &Batch) -> Vec<u32> {
        let mut targets: Vec<ResultSlot> = Vec::new();
        for _ in &batch.numbers {
            let mut target = self.results.lease().unwrap().into_owned();
            let held = target.slot() as u8;
            target.fill(held);
            targets.push(target);
        }
        let numbers = targets.iter().map(|target| target.slot()).collect();
        self.backend.download(&batch.numbers, &mut targets);
        assert!(targets.is_empty(), "all result slots are the backend's");
        numbers
    }

    fn end_download(&mut self, batch: Batch, targets: &[u32]) {
        let back =
            self.wait(|backend, results: &mut Vec<ResultSlot>| backend.poll_download(results));
        let numbers: Vec<u32> = back.iter().map(|result| result.slot()).collect();
        assert_eq!(numbers, targets, "each result slot comes back, in order");
        for (&which, result) in batch.which.iter().zip(&back) {
            self.expected.check(which, result, result.slot() as u8);
        }
        self.images.release(batch.slots);
    }

    /// A batch through the three stages, one after another.
    fn run(&mut self, len: usize) {
        let mut batch = self.fill(len);
        self.begin_upload(&mut batch);
        self.end_upload(&mut batch);
        self.backend.compute(&batch.numbers);
        self.end_compute();
        let targets = self.begin_download(&batch);
        self.end_download(batch, &targets);
    }

    fn check_idle(&mut self) {
        let (mut slots, mut results) = (Vec::new(), Vec::new());
        assert!(self.backend.poll_upload(&mut slots).is_none() && slots.is_empty());
        assert!(self.backend.poll_compute().is_none());
        assert!(self.backend.poll_download(&mut results).is_none() && results.is_empty());
        assert_eq!(self.backend.geometry(), self.geometry, "sizes never change");
    }
}

/// Goal: all that the trait demands, of the backend that `open` opens.
fn check(open: impl Fn() -> Box<dyn Backend>, expected: &Expected) {
    let mut fixture = Fixture::new(open(), expected);
    fixture.check_idle();
    for len in [1, BATCH_LEN_MAX, 2] {
        fixture.run(len);
        fixture.check_idle();
    }
    check_depth(&mut fixture);
    fixture.check_idle();
    assert_eq!((fixture.images.used_len(), fixture.results.used_len()), (0, 0));
    check_drop(fixture);
    // One that was never attached, and one that never had work.
    drop(open());
    drop(Fixture::new(open(), expected));
}

/// As many batches as may be in flight, each uploaded while the one before is computed, and all
/// downloaded before anyone looks.
fn check_depth(fixture: &mut Fixture<'_>) {
    let mut batches: Vec<Batch> =
        (0..Scheduler::DEPTH).map(|batch| fixture.fill(1 + batch % 2)).collect();
    fixture.begin_upload(&mut batches[0]);
    for index in 0..batches.len() {
        fixture.end_upload(&mut batches[index]);
        fixture.backend.compute(&batches[index].numbers);
        if let Some(next) = batches.get_mut(index + 1) {
            fixture.begin_upload(next);
        }
        fixture.end_compute();
    }
    let targets: Vec<_> = batches.iter().map(|batch| fixture.begin_download(batch)).collect();
    for (batch, targets) in batches.into_iter().zip(targets) {
        fixture.end_download(batch, &targets);
    }
}

/// Dropped with work in every stage: it returns, and result slots are free again.
fn check_drop(mut fixture: Fixture<'_>) {
    let [mut downloading, mut computing, mut uploading] = [2, 2, 2].map(|len| fixture.fill(len));
    for batch in [&mut downloading, &mut computing] {
        fixture.begin_upload(batch);
        fixture.end_upload(batch);
    }
    fixture.backend.compute(&downloading.numbers);
    fixture.end_compute();
    fixture.begin_download(&downloading);
    fixture.backend.compute(&computing.numbers);
    fixture.begin_upload(&mut uploading);
    let Fixture { backend, results, images, .. } = fixture;
    drop(backend);
    assert_eq!(results.used_len(), 0, "results that nobody waits for are let go");
    images.release(downloading.slots.into_iter().chain(computing.slots));
}

fn open(spec: &str, model: Option<&Model>, options: &OpenOptions) -> Box<dyn Backend> {
    spec.parse::<BackendSpec>().unwrap().open(model, options).unwrap()
}

#[test]
fn the_null_backend_conforms() {
    check(|| open("null", None, &OpenOptions::default()), &Expected::Untouched);
}

#[test]
fn the_processor_conforms() {
    let model = common::cifar_model();
    let options = OpenOptions::default().threads(Some(2));
    check(|| open("cpu", Some(&model), &options), &Expected::of_cifar(1e-4));
}

#[cfg(feature = "sim")]
#[test]
fn a_simulated_device_conforms() {
    let spec = "sim:up=1ms+10us,compute=2ms+100us,down=1ms+10us";
    check(|| open(spec, None, &OpenOptions::default()), &Expected::Untouched);
}

#[cfg(feature = "cuda")]
mod gpu {
    use super::*;

    /// Logits in f16 against PyTorch's in f32.
    const TOLERANCE: f32 = 0.1;

    fn is_there(check: &str) -> bool {
        let found = twinstream::backend::cuda::devices();
        let is_there = found.as_ref().is_ok_and(|devices| !devices.is_empty());
        if !is_there {
            common::skip("gpu", check, &format!("{found:?}"));
        }
        is_there
    }

    #[test]
    fn a_gpu_conforms() {
        if is_there("the GPU's conformance") {
            let (model, options) = (common::cifar_model(), OpenOptions::default());
            check(|| open("cuda:0", Some(&model), &options), &Expected::of_cifar(TOLERANCE));
        }
    }

    #[test]
    fn a_gpu_refuses_more_batches_than_it_has_buffers_for() {
        if !is_there("the limit of the GPU's result buffers") {
            return;
        }
        let mut backend = open("cuda", Some(&common::cifar_model()), &OpenOptions::default());
        let options = RingOptions::new(4, backend.geometry().image_bytes);
        let (images, _consumer) = Ring::<()>::new(&options).unwrap();
        let depth = Scheduler::DEPTH + 1;
        let attachment = Attachment::new(&images, 1, depth, Waker::noop().clone());
        let error = backend.attach(attachment).unwrap_err();
        assert!(error.is_argument() && error.to_string().contains("result buffers"), "{error}");
    }
}

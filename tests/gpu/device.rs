//! What the tests share: devices, images, and batches driven by hand through the backend's trait.

use std::sync::OnceLock;
use std::task::Waker;
use std::time::Duration;

use safetensors::SafeTensors;
use twinstream::backend::cuda::{CudaDevice, CudaOptions, DeviceId, devices};
use twinstream::backend::{Attachment, Backend, Completion, ResultSlot};
use twinstream::model::{Answer, Model};
use twinstream::ring::{Consumer, Memory, Ring, RingOptions, Slot};
use twinstream::sched::{Scheduler, Timing};

use super::common::{self, cifar_model, f32_tensor, u8_tensor};

/// Of the repository's model and images.
pub const CLASS_COUNT: usize = 10;
pub const IMAGE_BYTES: usize = 32 * 32 * 3;

/// The model, opened once.
pub fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(cifar_model)
}

/// Pixels of the repository's CIFAR images, and PyTorch's logits of them.
pub fn cifar() -> (Vec<u8>, Vec<f32>) {
    let path = common::repository("tests/data/cifar-reference.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    (u8_tensor(&file, "cifar_pixels"), f32_tensor(&file, "cifar_logits"))
}

/// Whether there is a device to test on; `check` is skipped where there is none, see
/// [`common::skip`] and its word `gpu`.
pub fn is_there(check: &str) -> bool {
    match devices() {
        Ok(list) if !list.is_empty() => true,
        found => {
            common::skip("gpu", check, &format!("{found:?}"));
            false
        }
    }
}

/// The device of this index, with the repository's model.
pub fn open(index: u32) -> CudaDevice {
    open_answering(index, Answer::Logits)
}

/// The same, with this answer.
pub fn open_answering(index: u32, answer: Answer) -> CudaDevice {
    let options = CudaOptions::for_model(model()).device(DeviceId::Index(index)).answer(answer);
    CudaDevice::new(model(), &options).unwrap()
}

/// A device, and batches in step: each stage is waited for.
pub struct Bench {
    device: CudaDevice,
    images: Ring<()>,
    results: Ring<Timing>,
    consumer: Consumer<()>,
}

impl Bench {
    pub fn new(device: CudaDevice, slot_len: u32) -> Self {
        let geometry = device.geometry();
        let mut rings = None;
        device.with_host_memory(&mut || {
            let options =
                |slot_bytes| RingOptions::new(slot_len, slot_bytes).memory_weakest(Memory::Cuda);
            let images = Ring::new(&options(geometry.image_bytes)).unwrap();
            let result_bytes = geometry.result_len * size_of::<f32>();
            rings = Some((images, Ring::new(&options(result_bytes)).unwrap()));
        });
        let ((images, consumer), (results, _)) = rings.unwrap();
        let mut device = device;
        device
            .attach(Attachment::new(
                &images,
                slot_len as usize,
                Scheduler::DEPTH,
                Waker::noop().clone(),
            ))
            .unwrap();
        Self { device, images, results, consumer }
    }

    /// The logits of images, at most as many as there are slots, as one batch.
    pub fn infer(&mut self, pixels: &[u8]) -> Vec<f32> {
        let image_bytes = self.device.geometry().image_bytes;
        let mut slots: Vec<Slot> = Vec::new();
        let mut results: Vec<ResultSlot> = Vec::new();
        for image in pixels.chunks_exact(image_bytes) {
            let mut lease = self.images.lease().unwrap();
            lease.copy_from_slice(image);
            lease.commit(()).unwrap();
            slots.push(self.consumer.take().unwrap().0);
            results.push(self.results.lease().unwrap().into_owned());
        }
        let numbers: Vec<u32> = slots.iter().map(Slot::index).collect();
        slots.sort_unstable();
        let device = &mut self.device;
        device.upload(&mut slots);
        wait(|| device.poll_upload(&mut slots)).unwrap();
        device.compute(&numbers);
        wait(|| device.poll_compute()).unwrap();
        device.download(&numbers, &mut results);
        wait(|| device.poll_download(&mut results)).unwrap();
        self.images.release(slots);
        let word = |word: &[u8]| f32::from_ne_bytes(word.try_into().unwrap());
        results.iter().flat_map(|result| result.chunks_exact(4).map(word)).collect()
    }
}

fn wait(mut poll: impl FnMut() -> Option<Completion>) -> Completion {
    loop {
        if let Some(completion) = poll() {
            return completion;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

//! What no client can make a server do: each request is answered and released once all the same.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use twinstream::backend::{Geometry, Null};
use twinstream::engine::{Engine, EngineOptions};

use crate::config::Sizes;
use crate::instance::Instance;
use crate::pending::Pending;
use crate::raw;
use crate::request::Request;
use crate::server;
use crate::service::Service;
use crate::stand_in::{FakeRequest, Seen, request_of};
use crate::status::{Cause, contain};

pub(crate) const IMAGE_BYTES: usize = 32 * 32 * 3;
const CLASS_LEN: usize = 10;
/// A pinned buffer.
const MEMORY_PINNED: i32 = 1;

pub(crate) fn instance() -> Arc<Instance> {
    let geometry = Geometry { image_bytes: IMAGE_BYTES, result_len: CLASS_LEN, batch_len_max: 64 };
    let engine = Engine::start(Null::new(geometry), &EngineOptions::default()).unwrap();
    let sizes = Sizes { height: 32, width: 32, class_count: CLASS_LEN };
    // SAFETY: the stand-ins don't look at it.
    let handle = unsafe { server::Instance::new(std::ptr::null_mut()) };
    Arc::new(Instance::new(handle, Arc::new(Service::new(engine, sizes).unwrap())))
}

pub(crate) fn own(request: &FakeRequest, instance: &Arc<Instance>) -> Request {
    // SAFETY: kept until it was answered; the stand-ins don't write to it but under locks.
    unsafe { Request::new(std::ptr::from_ref(request).cast_mut().cast(), Arc::clone(instance)) }
}

/// What became of it, once it is answered.
fn execute(request: FakeRequest) -> Seen {
    let instance = instance();
    Pending::execute(own(&request, &instance));
    // The release comes last.
    while request.seen().releases == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    request.seen().clone()
}

fn failed(cause: Cause, text: &str) -> Seen {
    let answers = vec![Err((cause as i32, text.to_owned()))];
    Seen { answers, successes: vec![false], releases: 1 }
}

#[test]
fn images_may_lie_in_any_buffers() {
    let pixels: Vec<u8> = (0..3 * IMAGE_BYTES).map(|index| (index % 251) as u8).collect();
    let cuts = [0, 1, IMAGE_BYTES - 1, IMAGE_BYTES - 1, 2 * IMAGE_BYTES + 5, pixels.len()];
    let mut fake = request_of(3, IMAGE_BYTES);
    let buffers = cuts.windows(2).map(|cut| (pixels[cut[0]..cut[1]].to_vec(), MEMORY_PINNED));
    fake.buffers = buffers.collect();
    let mut request = own(&fake, &instance());
    let (mut lease, _) = request.prepare().unwrap();
    assert_eq!(lease.images_mut().flat_map(|image| image.to_vec()).collect::<Vec<_>>(), pixels);
}

#[test]
fn buffers_have_as_many_bytes_as_the_shape_says() {
    for (len_bytes, word) in [(IMAGE_BYTES - 1, "less"), (IMAGE_BYTES + 1, "more"), (0, "less")] {
        let mut request = request_of(1, IMAGE_BYTES);
        request.buffers[0].0.resize(len_bytes, 0);
        let text = format!("the buffers of `image` have {word} bytes than its shape says");
        assert_eq!(execute(request), failed(Cause::Argument, &text));
    }
}

#[test]
fn memory_of_a_gpu_is_refused() {
    let text =
        |name| format!("`{name}` is in GPU memory: use the host's, such as system shared memory");
    let mut request = request_of(1, IMAGE_BYTES);
    request.buffers[0].1 = raw::MEMORY_GPU;
    assert_eq!(execute(request), failed(Cause::Unsupported, &text("image")));
    let mut request = request_of(1, IMAGE_BYTES);
    request.output_memory = raw::MEMORY_GPU;
    assert_eq!(execute(request), failed(Cause::Unsupported, &text("logits")));
}

#[test]
fn no_images_and_too_many_are_refused() {
    for (image_len, word) in [(0, "at least one image"), (1025, "from 1 to")] {
        let seen = execute(request_of(image_len, IMAGE_BYTES));
        let (cause, text) = seen.answers[0].clone().unwrap_err();
        assert!(cause == Cause::Argument as i32 && text.contains(word), "{text}");
        assert_eq!(seen, failed(Cause::Argument, &text));
    }
}

#[test]
fn what_was_cancelled_before_is_not_computed() {
    let mut request = request_of(1, IMAGE_BYTES);
    request.is_cancelled = true;
    assert_eq!(execute(request), failed(Cause::Cancelled, "the request was cancelled"));
}

/// Nobody can be told then.
#[test]
fn a_request_without_a_response_is_released() {
    let mut request = request_of(2, IMAGE_BYTES);
    request.has_response = false;
    assert_eq!(execute(request), Seen { successes: vec![false], releases: 1, ..Seen::default() });
}

#[test]
fn a_panic_answers_its_request() {
    let (fake, instance) = (request_of(1, IMAGE_BYTES), instance());
    let request = own(&fake, &instance);
    contain(|| {
        let _request = request;
        panic!("in the midst of it");
    });
    let text = "the backend gave the request up: its log says why";
    assert_eq!(*fake.seen(), failed(Cause::Internal, text));
}

#[test]
fn each_of_many_is_answered_once() {
    let instance = instance();
    let with_images = |index: usize| request_of(1 + index % 3, IMAGE_BYTES);
    let requests: Vec<FakeRequest> = (0..10_000).map(with_images).collect();
    requests.iter().for_each(|request| Pending::execute(own(request, &instance)));
    instance.drain();
    let mut answered_len = 0;
    for request in &requests {
        while request.seen().releases == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        let seen = request.seen().clone();
        if seen.answers[0].is_ok() {
            let bytes = request.shape[0] as usize * CLASS_LEN * size_of::<f32>();
            assert_eq!(seen, Seen { answers: vec![Ok(bytes)], successes: vec![true], releases: 1 });
            answered_len += 1;
        } else {
            let text = "every slot is in use: send less at a time, or later";
            assert_eq!(seen, failed(Cause::Unavailable, text));
        }
    }
    assert!(answered_len > 500, "{answered_len} answered");
}

#[test]
fn an_instance_waits_for_its_requests() {
    let instance = instance();
    instance.enter();
    let draining = thread::spawn({
        let instance = Arc::clone(&instance);
        move || instance.drain()
    });
    thread::sleep(Duration::from_millis(50));
    assert!(!draining.is_finished());
    instance.leave();
    draining.join().unwrap();
}

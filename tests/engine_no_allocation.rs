//! The engine allocates nothing on the request path after its start: counted over every allocation
//! of the process.

#[path = "common/counting.rs"]
mod counting;

use std::sync::Arc;
use std::time::{Duration, Instant};

use counting::allocations;
use twinstream::backend::cpu::{Cpu, CpuDevice, CpuOptions};
use twinstream::backend::{Backend, Geometry, Null};
use twinstream::engine::{
    Answer, CacheStats, Engine, EngineOptions, Handler, RequestOptions, Stats, Ticket,
};
use twinstream::model::Model;

/// One request in each way that there is, for each of `round_len` rounds.
fn play(engine: &Engine, handler: &Arc<dyn Handler>, round_len: usize) {
    let accepted = engine.stats().accepted;
    let mut image = vec![7; engine.geometry().image_bytes];
    let images = image.repeat(3);
    let mut tickets: Vec<Ticket> = Vec::with_capacity(8);
    let before = allocations();
    for round in 0..round_len {
        for number in 0..tickets.capacity() {
            // Half of them have never been seen before.
            if number % 2 == 0 {
                let unique = accepted + (8 * round + number) as u64;
                image[..8].copy_from_slice(&unique.to_le_bytes());
            }
            let deadline = Some(Instant::now() + Duration::from_secs(60));
            let options = RequestOptions::default().deadline(deadline);
            tickets.push(engine.submit(&image, options).unwrap());
        }
        tickets[round % 8].cancel();
        drop(tickets.pop());
        let mut lease = engine.lease().unwrap();
        lease.fill(1);
        lease.commit_with(RequestOptions::default(), Arc::clone(handler), 1).unwrap();
        let many = engine.submit_many(&images, RequestOptions::default()).unwrap();
        let mut lease = engine.lease_many(2).unwrap();
        lease.images_mut().for_each(|image| image.fill(1));
        lease.commit_with(RequestOptions::default(), Arc::clone(handler), 2).unwrap();
        for answer in many.wait() {
            answer.unwrap();
        }
        // All slots are in use until what is on its way has ended.
        drop(engine.lease_many_timeout(32, Duration::from_secs(60)).unwrap());
        for ticket in tickets.drain(..) {
            // Cancelled or completed; which, is not the point here.
            let _ = ticket.wait();
        }
        // The snapshot may be older than the last commits.
        let committed = accepted + 14 * (round as u64 + 1);
        let is_over = |stats: Stats| stats.alive_len == 0 && stats.accepted == committed;
        while !is_over(engine.stats()) {
            std::thread::yield_now();
        }
    }
    let counted = allocations() - before;
    eprintln!("{round_len} rounds: {counted} allocations");
    // The first round makes what the standard library keeps for each thread and channel.
    if round_len > 1 {
        assert_eq!(counted, 0);
    }
}

fn check(backends: Vec<Box<dyn Backend>>, round_len: usize) {
    // Traced, so that the trace is full after a few rounds.
    let answer_bytes = 4 * backends[0].geometry().result_len + 300;
    // Answers are kept, of which most give way.
    let options =
        EngineOptions::default().slot_len(32).trace_len(100).cache_bytes(10 * answer_bytes);
    let engine = Engine::start_all(backends, &options).unwrap();
    let handler: Arc<dyn Handler> = Arc::new(|_, answer: Answer| drop(answer));
    play(&engine, &handler, 1);
    play(&engine, &handler, round_len);
    let CacheStats { hits, joined, misses, .. } = engine.stats().cache;
    assert!(hits > 0 && joined > 0 && misses > 10, "{:?}", engine.stats().cache);
}

/// One test alone in its process, so that no other test's allocations are counted.
#[test]
fn the_request_path_allocates_nothing() {
    let null = || Null::new(Geometry { image_bytes: 3072, result_len: 10, batch_len_max: 16 });
    check(vec![null().into()], 5000);
    check(vec![null().into(), null().into()], 5000);
    let weights = concat!(env!("CARGO_MANIFEST_DIR"), "/models/resnet50-cifar10/model.safetensors");
    let model = Model::load(weights.as_ref(), None).unwrap();
    let options = CpuOptions::for_model(&model).threads(2);
    check(vec![CpuDevice::new(Cpu::new(&model, &options).unwrap()).into()], 20);
    // The emulated device's own allocations are C++'s, and not counted.
    #[cfg(twinstream_emulated)]
    {
        use twinstream::backend::cuda::{CudaDevice, CudaOptions};
        check(vec![CudaDevice::new(&model, &CudaOptions::for_model(&model)).unwrap().into()], 2);
    }
}

//! The CPU backend allocates nothing once it is built: counted over every allocation of the
//! process.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use twinstream::backend::cpu::{Cpu, CpuOptions};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: forwards every call to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// One test alone in its process, so that no other test's allocations are counted.
#[test]
fn inference_allocates_nothing() {
    let model = common::cifar_model();
    let options = CpuOptions { threads: 2, ..CpuOptions::for_model(&model) };
    let mut cpu = Cpu::new(&model, &options).unwrap();
    let images = vec![128; 200 * cpu.image_bytes()];
    let mut logits = vec![0.0; 200 * model.class_count()];
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    assert!(before > 0, "the allocator does not count");
    for batch_len in [1, 2, 7, 16, 200] {
        let (images, logits) = (
            &images[..batch_len * cpu.image_bytes()],
            &mut logits[..batch_len * model.class_count()],
        );
        cpu.infer(images, logits).unwrap();
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
}

//! The CPU backend allocates nothing once it is built: counted over every allocation of the
//! process.

mod common;
#[path = "common/counting.rs"]
mod counting;

use counting::allocations;
use twinstream::backend::cpu::{Cpu, CpuOptions, vector_instructions};
use twinstream::lower::DType;
use twinstream::model::Model;

/// One test alone in its process, so that no other test's allocations are counted.
#[test]
fn inference_allocates_nothing() {
    let model = common::cifar_model();
    let bytes = common::calibrated(&vec![128; 32 * 32 * 3]);
    let integers = Model::from_bytes("calibrated", bytes, model.config().clone()).unwrap();
    for (model, precision) in [(&model, DType::F32), (&model, DType::BF16), (&integers, DType::I8)]
    {
        // Not every processor computes in bf16.
        if vector_instructions(precision).is_some() {
            infer(model, precision);
        }
    }
}

fn infer(model: &Model, precision: DType) {
    let options = CpuOptions::for_model(model).threads(2).precision(precision);
    let mut cpu = Cpu::new(model, &options).unwrap();
    let images = vec![128; 200 * cpu.image_bytes()];
    let mut logits = vec![0.0; 200 * model.class_count()];
    let before = allocations();
    for batch_len in [1, 2, 7, 16, 200] {
        let (images, logits) = (
            &images[..batch_len * cpu.image_bytes()],
            &mut logits[..batch_len * model.class_count()],
        );
        cpu.infer(images, logits).unwrap();
    }
    assert_eq!(allocations() - before, 0, "{precision}");
}

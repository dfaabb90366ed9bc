//! Layers 1 and 2 chunk by chunk: the same network, whatever the chunks' length.

use twinstream::backend::cuda::{
    CudaDevice, CudaOptions, DeviceInfo, TuneOptions, Tuning, Verdicts, devices, plan_summaries,
    tune_chunks,
};
use twinstream::lower::DType;
use twinstream::model::Model;

use super::device::{Bench, IMAGE_BYTES, cifar, is_there, model};
use super::integers::{bits, quantized};

const BUCKET: usize = 8;
/// Of one bucket: full, within the last chunk, and without it.
const BATCH_LENS: [usize; 3] = [8, 7, 6];

/// As if chunks of so many images had been measured to be best.
fn tuning(device: &DeviceInfo, input: &str, chunk_len: usize) -> Tuning {
    let DeviceInfo { name, capability: (major, minor), multiprocessor_len, .. } = device;
    let text = format!(
        "{{\"devices\": {{}}, \"chunks\": {{\"{name} sm_{major}{minor} x{multiprocessor_len}\": \
         {{\"{input}\": {{\"{BUCKET}\": {chunk_len}}}}}}}}}"
    );
    let name = format!("twinstream-chunks-{input}-{chunk_len}-{}.json", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text).unwrap();
    let tuning = Tuning::load(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    tuning
}

/// Goal: chunks change no bit, in f16 and of integers. Method: two chunks and more, the last one
/// shorter; batches that fill it, end within it, or at the chunk before or within that, each behind
/// a longer one, so that what that left would be seen.
#[test]
fn chunks_change_nothing() {
    if !is_there("chunks on the GPU") {
        return;
    }
    let (pixels, _) = cifar();
    let device = &devices().unwrap()[0];
    let batch = |len: usize| &pixels[(BUCKET - len) * IMAGE_BYTES..BUCKET * IMAGE_BYTES];
    let cases: [(&Model, DType, &str, &[usize]); 2] =
        [(model(), DType::F16, "32x32", &[3, 7]), (quantized(), DType::I8, "32x32 i8", &[3])];
    for (of_model, precision, input, chunk_lens) in cases {
        let options = CudaOptions::for_model(of_model);
        let bench = |options: &CudaOptions| {
            Bench::new(CudaDevice::new(of_model, options).unwrap(), BUCKET as u32)
        };
        let mut whole = bench(&options);
        let expected = BATCH_LENS.map(|batch_len| bits(&whole.infer(batch(batch_len))));
        for &chunk_len in chunk_lens {
            let tuning = tuning(device, input, chunk_len);
            let none = Verdicts::default();
            let network = of_model.network(32, 32).unwrap();
            let plans = plan_summaries(&network, precision, device, (&tuning, &none)).unwrap();
            let planned = plans.iter().find(|plan| plan.batch_len == BUCKET).unwrap();
            assert_eq!(planned.chunk_len, Some(chunk_len));
            let mut in_chunks = bench(&options.clone().tuning(tuning));
            for (batch_len, expected) in BATCH_LENS.into_iter().zip(&expected) {
                let found = bits(&in_chunks.infer(batch(batch_len)));
                let what = format!("{precision}: {batch_len} images in chunks of {chunk_len}");
                assert_eq!(found, *expected, "{what}");
            }
        }
    }
}

/// Goal: chunks are measured of long batches alone; what was best is noted and planned.
#[test]
fn chunks_are_tuned() {
    if !is_there("tuning chunks on the GPU") {
        return;
    }
    let mut tuning = Tuning::default();
    let tune_options = TuneOptions::default().batch_lens(vec![1, 32]).choice_len(1).repeat_len(1);
    let mut measured = Vec::new();
    tune_chunks(
        model(),
        &CudaOptions::for_model(model()),
        &tune_options,
        &mut tuning,
        &mut |it, _| {
            measured.push(it.clone());
        },
    )
    .unwrap();
    let [chunks] = &measured[..] else { panic!("{measured:?}") };
    assert_eq!(chunks.batch_len, 32);
    assert!(chunks.noted().elapsed_ns <= chunks.whole_ns());
    let lengths: Vec<_> = chunks.lengths.iter().map(|length| length.chunk_len).collect();
    assert_eq!(lengths, [None, Some(16)]);
    assert!(lengths.contains(&chunks.chunk_len));
    let network = model().network(32, 32).unwrap();
    let device = &devices().unwrap()[0];
    let plans =
        plan_summaries(&network, DType::F16, device, (&tuning, &Verdicts::default())).unwrap();
    for plan in plans {
        let expected = if plan.batch_len == 32 { chunks.chunk_len } else { None };
        assert_eq!(plan.chunk_len, expected, "{}", plan.batch_len);
    }
}

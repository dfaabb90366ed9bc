//! The network by the kernels on `wgmma`, taken for proven: on the emulated device alone.
//! `prove.rs` has those that are proven for real.

use std::collections::BTreeSet;
use std::fmt::Write;

use twinstream::backend::cpu::reference;
use twinstream::backend::cuda::{
    CudaDevice, CudaOptions, DeviceId, LaunchProfile, PlanSummary, ProfileOptions, ProveOptions,
    TuneOptions, Tuning, Verdict, Verdicts, cases, devices, plan_summaries, profile, tune,
};
use twinstream::lower::DType;
use twinstream::model::Model;

use super::device::{Bench, CLASS_COUNT, IMAGE_BYTES, cifar, model};
use super::golden::check;
use super::integers::{bits, on_the_cpu, quantized};

/// A device that these tests have for themselves.
const DEVICE: u32 = 0;
const BUCKETS: [usize; 3] = [1, 2, 4];
/// Convolutions of the network that are launched.
const CONV_LEN: usize = 48;
/// The last layer of the stem.
const STEM: &str = "maxpool";

fn plans((height, precision): (usize, DType), known: (&Tuning, &Verdicts)) -> Vec<PlanSummary> {
    let network = model().network(height, 32).unwrap();
    plan_summaries(&network, precision, &devices().unwrap()[DEVICE as usize], known).unwrap()
}

/// Kernels whose clusters share a sum; the first is none of integers.
const SPLITS: [&str; 4] = ["64x56_split", "64x64_split", "64x112_split", "64x192_split"];

/// The type's kernels whose channels divide a layer's.
fn tiles(precision: DType, channels: usize) -> Vec<&'static str> {
    let tiles = ["64x256", "128x128", "128x192", "128x256", "128x192_pair", "128x256_pair"];
    let tiles = match channels {
        64 => &tiles[..1],
        128 => &tiles[..4],
        _ => &tiles[..],
    };
    [tiles, &SPLITS[usize::from(precision == DType::I8)..]].concat()
}

/// As many blocks as have a step of the sum each at least, at this size.
fn split_k(precision: DType, layer: &str, stage: usize) -> usize {
    match precision {
        DType::I8 if layer.ends_with(".0.conv3") => 1,
        DType::I8 => 1 << stage >> 2,
        _ => 1 << stage >> 1,
    }
    .max(1)
}

/// As if these kernels had been measured to be best: for the stem, and for every convolution, one
/// after another; four images are computed in chunks. Images are 32 pixels wide.
fn everywhere(height: usize, precision: DType) -> Tuning {
    let (input, type_name) = match precision {
        DType::I8 => (format!("{height}x32 i8"), "_i8"),
        _ => (format!("{height}x32"), ""),
    };
    let mut layers = String::new();
    let plans = plans((height, precision), (&Tuning::default(), &Verdicts::default()));
    for (index, conv) in plans[0].convs.iter().enumerate() {
        let number = |at: usize| usize::from(conv.layer.as_bytes()[at] - b'0');
        let (stage, is_last) = (number("layer".len()), conv.layer.ends_with("conv3"));
        let channels = (32 << stage) * if is_last { 4 } else { 1 };
        let tiles = tiles(precision, channels);
        let entry = |(at, batch_len): (usize, &usize)| {
            let tile = tiles[(index + at) % tiles.len()];
            let is_split = SPLITS.contains(&tile);
            let split_k = if is_split { split_k(precision, &conv.layer, stage) } else { 1 };
            format!(
                "{{\"batch_len\": {batch_len}, \"kernel\": \"conv{type_name}_wgmma_{tile}\", \
                 \"split_len\": {split_k}}}"
            )
        };
        let entries: Vec<_> = BUCKETS.iter().enumerate().map(entry).collect();
        write!(layers, "\"{}\": [{}],", conv.layer, entries.join(", ")).unwrap();
    }
    let stem = format!("\"kernel\": \"stem{type_name}_wgmma\", \"split_len\": 1");
    let entry = |batch_len: &usize| format!("{{\"batch_len\": {batch_len}, {stem}}}");
    let entries: Vec<_> = BUCKETS.iter().map(entry).collect();
    write!(layers, "\"{STEM}\": [{}]", entries.join(", ")).unwrap();
    let device = format!("Emulated device {DEVICE} sm_90 x8");
    let text = format!(
        "{{\"devices\": {{\"{device}\": {{\"{input}\": {{{layers}}}}}}}, \
         \"chunks\": {{\"{device}\": {{\"{input}\": {{\"4\": 3}}}}}}}}"
    );
    let name = format!("twinstream-wgmma-{height}-{precision}-{}.json", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text).unwrap();
    let tuning = Tuning::load(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    tuning
}

/// As if all kernels that need a proof had been tried, with this verdict.
fn judged(of_model: &Model, options: &CudaOptions, verdict: &Verdict) -> Verdicts {
    let prove_options = ProveOptions::default().batch_lens(BUCKETS.to_vec());
    let mut verdicts = Verdicts::default();
    let options = options.clone().verdicts(Verdicts::default());
    let cases = cases(of_model, &options, &prove_options).unwrap();
    assert!(!cases.is_empty());
    cases.iter().for_each(|case| verdicts.set(case, verdict.clone()));
    verdicts
}

/// The device, with these kernels proven.
fn options_for(of_model: &Model, height: usize) -> CudaOptions {
    let options = CudaOptions::for_model(of_model).device(DeviceId::Index(DEVICE)).height(height);
    let tuning = everywhere(height, options.precision);
    let options = options.tuning(tuning);
    let verdicts = judged(of_model, &options, &Verdict::Equal);
    options.verdicts(verdicts)
}

/// Goal: a plan has these kernels where they are proven, all of them and in chunks too, and nowhere
/// else; and says which it goes without.
#[test]
fn plans_show_kernels_that_are_proven() {
    for (of_model, head) in [(model(), "conv_wgmma_"), (quantized(), "conv_i8_wgmma_")] {
        let options = options_for(of_model, 32);
        let plans = |verdicts: &Verdicts| {
            let mut plans = plans((32, options.precision), (&options.tuning, verdicts));
            plans.retain(|plan| BUCKETS.contains(&plan.batch_len));
            plans
        };
        let proven = plans(&options.verdicts);
        let convs = proven.iter().flat_map(|plan| &plan.convs);
        let kernels: BTreeSet<&str> = convs.clone().map(|conv| conv.kernel).collect();
        assert_eq!(kernels.len(), tiles(options.precision, 256).len());
        assert!(kernels.iter().all(|kernel| kernel.starts_with(head)), "{kernels:?}");
        assert!(convs.clone().all(|conv| conv.is_proven));
        assert!(proven.iter().all(|plan| plan.unproven.is_empty()));
        assert_eq!(proven[2].chunk_len, Some(3));

        let refused = judged(of_model, &options, &Verdict::Refused("it hangs".to_owned()));
        for (verdicts, refusal) in [(refused, Some("it hangs")), (Verdicts::default(), None)] {
            for plan in plans(&verdicts) {
                assert!(plan.convs.iter().all(|conv| !conv.kernel.starts_with(head)));
                assert!(plan.convs.iter().all(|conv| !conv.is_proven));
                assert!(plan.unproven.len() > CONV_LEN);
                assert!(plan.unproven.iter().all(|it| it.refusal.as_deref() == refusal));
            }
        }
    }
}

/// Goal: chunks for which a kernel of theirs is not proven are none; the rest of the plan stays.
#[test]
fn chunks_need_a_proof_of_their_own() {
    let options = options_for(model(), 32);
    let untuned = options.clone().tuning(Tuning::default());
    let without_chunks = judged(model(), &untuned, &Verdict::Equal);
    let plans = |verdicts| plans((32, DType::F16), (&options.tuning, verdicts));
    let (whole, in_chunks) = (plans(&without_chunks), plans(&options.verdicts));
    assert_eq!((whole[2].chunk_len, in_chunks[2].chunk_len), (None, Some(3)));
    assert_eq!(whole[2].convs, in_chunks[2].convs);
}

/// Goal: with these kernels for every convolution, batches are computed as ever, full or not.
/// Method: in each bucket, logits against PyTorch's.
#[test]
fn logits_are_pytorch_s() {
    let (pixels, expected) = cifar();
    let device = CudaDevice::new(model(), &options_for(model(), 32)).unwrap();
    let mut bench = Bench::new(device, 4);
    let mut first = 0;
    for batch_len in [1, 2, 3, 4] {
        let images = first..first + batch_len;
        let found = bench.infer(&pixels[images.start * IMAGE_BYTES..images.end * IMAGE_BYTES]);
        let expected = &expected[images.start * CLASS_COUNT..images.end * CLASS_COUNT];
        check(&format!("{batch_len} CIFAR images"), &found, expected);
        first = images.end;
    }
}

/// Goal: of integers each layer's bytes are the definition's, and logits the CPU's in each bucket,
/// for images with an odd and an even side too; a profile takes these kernels.
#[test]
fn integers_are_the_reference_s() {
    let (pixels, _) = cifar();
    for (height, batch_lens) in [(32, [1, 2, 3]), (33, [1, 2, 4])] {
        let device = CudaDevice::new(quantized(), &options_for(quantized(), height)).unwrap();
        let mut bench = Bench::new(device, 4);
        for batch_len in batch_lens {
            let batch = &pixels[..batch_len * height * 32 * 3];
            let (found, expected) = (bench.infer(batch), on_the_cpu(batch, (height, 32)));
            assert_eq!(bits(&found), bits(&expected), "{batch_len} images of {height} rows");
        }
    }
    let options = options_for(quantized(), 32);
    let mut profiled = Vec::new();
    let profile_options = ProfileOptions::default().batch_lens(vec![4]).repeat_len(1);
    profile(quantized(), &options, &profile_options, &mut |batch| profiled.push(batch.clone()))
        .unwrap();
    let [batch] = &profiled[..] else { panic!("{}", profiled.len()) };
    assert_eq!(bits(&batch.logits), bits(&on_the_cpu(&batch.images, (32, 32))));
    let expected = reference(quantized(), 32, 32, &batch.images[..IMAGE_BYTES]).unwrap();
    for (launch, expected) in batch.launches.iter().zip(expected.activations) {
        assert!(launch.output == expected, "{} by {}", launch.layer, launch.kernel);
    }
    let is_new = |launch: &&LaunchProfile| {
        launch.kernel.starts_with("conv_i8_wgmma_") || launch.kernel == "stem_i8_wgmma"
    };
    assert_eq!(batch.launches.iter().filter(is_new).count(), CONV_LEN + 1);
}

/// Goal: there is room to measure them beside the others, and what was best is noted and used.
/// Method: so many choices a layer that by the model some of these are among them, as in all last
/// convolutions of stages 3 and 4.
#[test]
fn kernels_that_are_proven_are_tuned() {
    let mut tuning = Tuning::default();
    let options = options_for(model(), 32).tuning(Tuning::default());
    let tune_options = TuneOptions::default().batch_lens(vec![1]).choice_len(4).repeat_len(1);
    let mut measured = Vec::new();
    tune(model(), &options, &tune_options, &mut tuning, &mut |bucket, _| {
        measured.extend_from_slice(bucket);
    })
    .unwrap();
    assert_eq!(measured.len(), CONV_LEN + 1);
    assert_eq!(measured[0].conv.layer, STEM);
    let plans = plans((32, DType::F16), (&tuning, &options.verdicts));
    assert!(measured[1..].iter().map(|it| &it.conv).eq(&plans[0].convs));
}

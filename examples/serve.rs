//! Serves images of a file name or more, on the network that the repository carries:
//! `cargo run --example serve -- examples/images/*`. They are handed over as one, so that the
//! engine may compute them together.

use std::error::Error;
use std::path::PathBuf;

use twinstream::backend::cpu::{Cpu, CpuDevice, CpuOptions};
use twinstream::engine::{Engine, EngineOptions, RequestOptions};
use twinstream::image::{self, Preprocess};
use twinstream::model::{Model, top_k};

fn main() -> Result<(), Box<dyn Error>> {
    let repository = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if files.is_empty() {
        files.push(repository.join("examples/images/cifar-cat.png"));
    }
    let weights = repository.join("models/resnet50-cifar10/model.safetensors");
    let model = Model::load(&weights, None)?;
    let preprocess = Preprocess::for_model(model.config());
    let cpu = Cpu::new(&model, &CpuOptions::for_model(&model))?;
    let engine = Engine::start(CpuDevice::new(cpu), &EngineOptions::default())?;

    let mut lease = engine.lease_many(files.len())?;
    for (place, file) in lease.images_mut().zip(&files) {
        let input = preprocess.apply(&image::decode_file(file)?)?;
        place.copy_from_slice(input.pixels());
    }
    let answers = lease.commit(RequestOptions::default())?.wait();
    for (file, answer) in files.iter().zip(answers) {
        let best = top_k(&answer?, 1)[0];
        let label = model.label(best.index);
        println!("{}: {label} {:.1} %", file.display(), 100.0 * best.probability);
    }
    Ok(())
}

//! Serves images of a file name or more, on the network that the repository carries:
//! `cargo run --example serve -- examples/images/*`. Each request is handed in before the first
//! answer is waited for, so that the engine forms batches.

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

    let mut tickets = Vec::new();
    for file in &files {
        let input = preprocess.apply(&image::decode_file(file)?)?;
        tickets.push(engine.submit(input.pixels(), RequestOptions::default())?);
    }
    for (file, ticket) in files.iter().zip(tickets) {
        let best = top_k(&ticket.wait()?, 1)[0];
        let label = model.label(best.index);
        println!("{}: {label} {:.1} %", file.display(), 100.0 * best.probability);
    }
    Ok(())
}

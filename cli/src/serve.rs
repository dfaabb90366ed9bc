//! `twinstream serve`: an engine for clients of the Open Inference Protocol.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use rustix::process::{Resource, getrlimit, setrlimit};
use twinstream::backend::BackendSpecs;
use twinstream::engine::{Engine, EngineOptions};
use twinstream::image::{DecodeOptions, Preprocess};
use twinstream::model::ModelConfig;
use twinstream::sim::words;
use twinstream_server::{Served, Server, ServerOptions, TlsOptions, ended_by_signal};

use crate::backend::{BackendOptions, Prepared};
use crate::options::{parse_count, parse_mebibytes, parse_pixels};
use crate::output::print;
use crate::words::check_bound;

/// Side of the images where nothing is computed.
const NO_NETWORK_SIDE: usize = 32;

/// Answer clients over gRPC and HTTP, by the Open Inference Protocol (KServe v2, Triton's)
#[derive(Args)]
pub struct Options {
    /// What computes: cpu, cuda, cuda:INDEX, or without a network null or sim:DEVICE; or several,
    /// separated by commas, which serve one queue: if one is lost, the others go on. cpu:2x1 is two
    /// teams of one thread
    #[arg(long, value_name = "BACKEND", default_value = "cpu")]
    backend: BackendSpecs,
    #[command(flatten)]
    open: BackendOptions,
    /// The model's name in requests
    #[arg(long, value_name = "NAME", value_parser = parse_name, default_value = "resnet50")]
    name: String,
    /// Address and port for gRPC, HTTP and metrics; port 0 takes one that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// The server's certificate and those that it was signed by, in PEM: connections are encrypted
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificates: Option<PathBuf>,
    /// The key of the first certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificates")]
    tls_key: Option<PathBuf>,
    /// Those who sign the certificates of clients, in PEM: clients must show one
    #[arg(long, value_name = "FILE", requires = "tls_certificates")]
    tls_client_authorities: Option<PathBuf>,
    /// File with the token that clients show as `authorization: Bearer TOKEN`, but to ask for the
    /// server's health
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Longest request body, in MiB
    #[arg(long, value_name = "MIB", value_parser = parse_mebibytes, default_value = "64")]
    body_max: usize,
    /// Bodies of all requests together, in MiB
    #[arg(long, value_name = "MIB", value_parser = parse_mebibytes, default_value = "1024")]
    bodies_max: usize,
    /// Connections at a time
    #[arg(long, value_name = "COUNT", value_parser = parse_count, default_value_t = 16_384)]
    connections_max: usize,
    /// Largest image file that is decoded, in megapixels (millions of pixels) [default: 50]
    #[arg(long, value_name = "MEGAPIXELS", value_parser = parse_pixels)]
    pixels_max: Option<usize>,
    /// Longest latency of an image, such as 20ms: what would take longer is refused at once.
    /// Metrics and load reports tell the largest rate within it [default: none, and for these ten
    /// times what an image takes alone]
    #[arg(long, value_name = "DURATION", value_parser = words::duration_ns)]
    latency_bound: Option<f64>,
    /// Room for the answers of images seen before, in MiB: equal images are computed once, where
    /// that pays [default: none]
    #[arg(long, value_name = "MIB", value_parser = parse_mebibytes)]
    cache: Option<usize>,
    /// Send a load report (ORCA) with every answer to an inference, for balancers that do not ask
    #[arg(long)]
    load_reports: bool,
    /// Longest time of a request, its body's way here included
    #[arg(long, default_value = "30s", value_parser = parse_timeout)]
    request_timeout: f64,
    /// Let clients register system shared memory, for images and results: whoever reaches the
    /// server then reaches all shared memory that it may read and write
    #[arg(long)]
    shared_memory: bool,
    /// After SIGTERM it is not ready, and goes on answering for so long
    #[arg(long, default_value = "0s", value_parser = words::duration_ns)]
    linger: f64,
    /// What was read by then may take so long
    #[arg(long, default_value = "30s", value_parser = words::duration_ns)]
    drain_timeout: f64,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    allow_descriptors(options.connections_max as u64);
    options.open.check(Some(&options.backend), ("--pixels-max", options.pixels_max.is_some()))?;
    let Prepared { model, options: open } = options.open.prepare(&options.backend)?;
    let backends = options.backend.open(model.as_ref(), &open)?;
    let engine_options = EngineOptions::default()
        .core(options.open.core)
        .latency_bound(options.latency_bound.map(duration))
        .cache_bytes(options.cache.unwrap_or(0));
    let engine = Engine::start_all(backends, &engine_options)?;
    check_bound(options.latency_bound, engine.stats().alone_ns(), &options.backend.to_string())?;
    let mut served = match (&model, open.size) {
        (Some(model), Some((height, width))) => {
            Served::of_model(&options.name, model, height, width)
        }
        _ => Served::of_size(&options.name, no_network()),
    };
    if let Some(pixels_max) = options.pixels_max {
        served.decode = DecodeOptions::default().pixels_max(pixels_max);
    }
    let server = Server::bind(engine, served, server_options(options)?)?;
    let scheme = if options.tls_certificates.is_some() { "https" } else { "http" };
    let (name, address) = (&options.name, server.address()?);
    let line = format!("{name} at {scheme}://{address}/v2 and, over gRPC, {address}");
    // Whoever does not listen to that may send requests all the same.
    if let Err(error) = print(&line) {
        log::warn!("{error}; {line}");
    }
    match server.run(ended_by_signal())? {
        true => Ok(()),
        false => bail!("some requests were not answered within --drain-timeout"),
    }
}

/// What an address can have between two slashes.
fn parse_name(name: &str) -> Result<String, &'static str> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match !name.is_empty() && name.chars().all(is_good) {
        true => Ok(name.to_owned()),
        false => Err("expected letters, digits, `-`, `_` and `.`, such as resnet50"),
    }
}

fn parse_timeout(text: &str) -> Result<f64, String> {
    match words::duration_ns(text) {
        Ok(ns) if ns >= 1e6 => Ok(ns),
        Ok(_) => Err("expected at least 1ms".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn duration(ns: f64) -> Duration {
    Duration::from_nanos(ns as u64)
}

/// Without the line's end.
fn read_token(path: &Path) -> anyhow::Result<String> {
    let name = || path.display().to_string();
    let token = fs::read_to_string(path).with_context(name)?.trim_end().to_owned();
    // What a header can carry.
    let is_token = !token.is_empty() && token.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    ensure!(is_token, "{}: a token is one line of printable ASCII", name());
    Ok(token)
}

/// Beyond those of connections: files, the runtime, the engine.
const OTHER_DESCRIPTORS: u64 = 128;

/// Each connection is a descriptor, and few are allowed unless a process asks for more.
fn allow_descriptors(connection_len: u64) {
    let wanted = connection_len + OTHER_DESCRIPTORS;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
    let is_allowed = setrlimit(Resource::Nofile, limit).is_ok();
    if !is_allowed || limit.current < Some(wanted) {
        log::warn!(
            "the system allows this process fewer descriptors than --connections-max \
             {connection_len} takes: raise its limit (ulimit -n), or allow fewer connections"
        );
    }
}

/// Files become images of the size that backends without a network take.
fn no_network() -> Preprocess {
    let preprocess = Preprocess::for_model(&ModelConfig::default());
    Preprocess { height: NO_NETWORK_SIDE, width: NO_NETWORK_SIDE, ..preprocess }
}

fn server_options(options: &Options) -> anyhow::Result<ServerOptions> {
    let mut server = ServerOptions::default();
    server.listen = options.listen;
    server.tls = options.tls_certificates.as_ref().zip(options.tls_key.as_ref()).map(
        |(certificates, key)| TlsOptions {
            certificates: certificates.clone(),
            key: key.clone(),
            client_authorities: options.tls_client_authorities.clone(),
        },
    );
    server.token = options.token_file.as_deref().map(read_token).transpose()?;
    let is_guarded = server.token.is_some() || options.tls_client_authorities.is_some();
    if !is_guarded && !server.listen.ip().is_loopback() {
        log::warn!(
            "whoever reaches {} may use it: --token-file or --tls-client-authorities would limit \
             that",
            server.listen
        );
    }
    server.body_bytes_max = options.body_max;
    server.bodies_bytes_max = options.bodies_max;
    server.connection_len_max = options.connections_max;
    server.latency_bound = options.latency_bound.map(duration);
    server.load_reports = options.load_reports;
    server.request_timeout = duration(options.request_timeout);
    server.shared_memory = options.shared_memory;
    server.linger = duration(options.linger);
    server.drain_timeout = duration(options.drain_timeout);
    Ok(server)
}

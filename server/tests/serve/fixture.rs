//! Servers for the tests, and the clients that talk to them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use tokio::sync::oneshot;
use tonic::transport::Channel;
use twinstream::backend::cpu::{Cpu, CpuDevice, CpuOptions};
use twinstream::backend::{Geometry, Null, SimulatedDevice};
use twinstream::engine::{Engine, EngineOptions};
use twinstream::image::Preprocess;
use twinstream::model::ModelConfig;
use twinstream::sched::{Decision, Policy, View};
use twinstream_server::{Served, Server, ServerOptions};

use super::common::{cifar_model, f32_tensor, repository, u8_tensor};
use super::protocol::{InferInputTensor, ModelInferRequest};

#[allow(clippy::all, missing_docs, dead_code)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/clients/inference.GRPCInferenceService.rs"));
    include!(concat!(env!("OUT_DIR"), "/clients/xds.service.orca.v3.OpenRcaService.rs"));
}

pub use generated::g_r_p_c_inference_service_client::GRPCInferenceServiceClient as Client;
pub use generated::open_rca_service_client::OpenRcaServiceClient as LoadClient;

pub const NAME: &str = "resnet50";
pub const IMAGE_BYTES: usize = 32 * 32 * 3;

/// A server in threads of its own.
pub struct Running {
    pub address: SocketAddr,
    end: oneshot::Sender<()>,
    thread: JoinHandle<bool>,
}

impl Running {
    pub fn start(engine: Engine, served: Served, mut options: ServerOptions) -> Self {
        options.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let (end, ended) = oneshot::channel();
        let (sender, receiver) = mpsc::channel();
        let thread = thread::spawn(move || {
            let server = Server::bind(engine, served, options).unwrap();
            sender.send(server.address().unwrap()).unwrap();
            let ended = async {
                // A test that fails drops its sender.
                let _ = ended.await;
            };
            server.run(ended).unwrap()
        });
        Self { address: receiver.recv().unwrap(), end, thread }
    }

    /// The network of the repository.
    pub fn network() -> Self {
        Self::network_with(ServerOptions::default())
    }

    pub fn network_with(options: ServerOptions) -> Self {
        let model = cifar_model();
        let cpu = Cpu::new(&model, &CpuOptions::for_model(&model).threads(1)).unwrap();
        let engine = Engine::start(CpuDevice::new(cpu), &EngineOptions::default()).unwrap();
        let served = Served::of_model(NAME, &model, 32, 32);
        Self::start(engine, served, options)
    }

    /// A backend that computes nothing, at once.
    pub fn null(options: ServerOptions) -> Self {
        let engine = Engine::start(null(), &EngineOptions::default()).unwrap();
        Self::start(engine, no_network(), options)
    }

    /// A described device, in real time.
    pub fn simulated(device: &str, engine_options: EngineOptions, options: ServerOptions) -> Self {
        let engine = Engine::start(simulated(device), &engine_options).unwrap();
        Self::start(engine, no_network(), options)
    }

    /// An engine that never starts a batch, with so many slots.
    pub fn stuck(slot_len: usize, options: ServerOptions) -> Self {
        let engine_options = EngineOptions::default().slot_len(slot_len);
        let engine = Engine::start_with_policy(null(), &engine_options, Box::new(Stuck)).unwrap();
        Self::start(engine, no_network(), options)
    }

    /// The same on a described device.
    pub fn stuck_on(device: &str, engine_options: &EngineOptions) -> Self {
        let device = simulated(device);
        let engine = Engine::start_with_policy(device, engine_options, Box::new(Stuck)).unwrap();
        Self::start(engine, no_network(), ServerOptions::default())
    }

    /// Asks it to end.
    pub fn end(self) -> JoinHandle<bool> {
        // It may have ended by itself.
        let _ = self.end.send(());
        self.thread
    }

    pub async fn client(&self) -> Client<Channel> {
        let channel = Channel::from_shared(format!("http://{}", self.address)).unwrap();
        Client::new(channel.connect().await.unwrap())
    }

    pub fn http(&self, request: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request).unwrap();
        Reply::read(&mut stream)
    }

    pub fn get(&self, path: &str) -> Reply {
        self.http(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
    }

    /// Headers end with a line break each.
    pub fn post(&self, path: &str, headers: &str, body: &[u8]) -> Reply {
        self.http(&post(path, headers, body))
    }

    pub fn infer(&self, json: &str) -> Reply {
        self.post("/v2/models/resnet50/infer", "", json.as_bytes())
    }

    /// Waits until a line of the metrics has come up to `value`: the engine's counts lag behind.
    pub async fn wait_for(&self, name: &str, value: f64) {
        let until = Instant::now() + Duration::from_secs(20);
        while self.metric(name) < value {
            assert!(Instant::now() < until, "{name} is {}", self.metric(name));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Inferences that ended so.
    pub fn outcome_len(&self, protocol: &str, outcome: &str) -> f64 {
        let labels = format!(r#"protocol="{protocol}",outcome="{outcome}""#);
        self.metric(&format!("twinstream_server_requests_total{{{labels}}}"))
    }

    /// A line of the metrics.
    pub fn metric(&self, name: &str) -> f64 {
        let page = self.get("/metrics").text();
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
    }
}

pub fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

fn null() -> Null {
    Null::new(Geometry { image_bytes: IMAGE_BYTES, result_len: 10, batch_len_max: 16 })
}

fn simulated(device: &str) -> SimulatedDevice {
    let geometry = Geometry { image_bytes: IMAGE_BYTES, result_len: 10, batch_len_max: 64 };
    SimulatedDevice::new(&device.parse().unwrap(), 1, geometry).unwrap()
}

pub fn no_network() -> Served {
    let preprocess = Preprocess::for_model(&ModelConfig::default());
    Served::of_size(NAME, Preprocess { height: 32, width: 32, ..preprocess })
}

#[derive(Debug)]
struct Stuck;

impl Policy for Stuck {
    fn upload(&self, _: &View<'_>) -> Decision {
        Decision::HOLD
    }
}

/// What came back over HTTP/1.1.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn read(stream: &mut TcpStream) -> Self {
        Self::try_read(stream).expect("a whole reply")
    }

    /// None where the connection ended before a reply began.
    pub fn try_read(stream: &mut TcpStream) -> Option<Self> {
        let mut bytes = Vec::new();
        let mut more = |bytes: &mut Vec<u8>| {
            let mut part = [0; 4096];
            let len = stream.read(&mut part).unwrap_or(0);
            bytes.extend_from_slice(&part[..len]);
            len > 0
        };
        let head_bytes = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if !more(&mut bytes) {
                assert!(bytes.is_empty(), "a head that is cut off");
                return None;
            }
        };
        let head = String::from_utf8(bytes[..head_bytes].to_vec()).unwrap();
        let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        while bytes.len() < head_bytes + length {
            assert!(more(&mut bytes), "a body that is cut off");
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some(Self { status, head, body: bytes[head_bytes..].to_vec() })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// The text of a refusal with this status.
    pub fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// Images of CIFAR-10, u8 RGB, and the logits that PyTorch gives them.
pub fn images() -> (Vec<u8>, Vec<f32>) {
    let bytes = std::fs::read(repository("tests/data/cifar-reference.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    (u8_tensor(&file, "cifar_pixels"), f32_tensor(&file, "cifar_logits"))
}

/// A request for some images, with raw contents.
pub fn request(pixels: &[u8]) -> ModelInferRequest {
    let len = (pixels.len() / IMAGE_BYTES) as i64;
    ModelInferRequest {
        model_name: NAME.to_owned(),
        inputs: vec![tensor("UINT8", vec![len, 32, 32, 3])],
        raw_input_contents: vec![pixels.to_vec().into()],
        ..Default::default()
    }
}

pub fn tensor(datatype: &str, shape: Vec<i64>) -> InferInputTensor {
    InferInputTensor {
        name: "image".to_owned(),
        datatype: datatype.to_owned(),
        shape,
        ..Default::default()
    }
}

/// The same as JSON.
pub fn json_request(pixels: &[u8]) -> String {
    let len = pixels.len() / IMAGE_BYTES;
    let tensor = format!(r#""name":"image","datatype":"UINT8","shape":[{len},32,32,3]"#);
    format!(r#"{{"inputs":[{{{tensor},"data":{pixels:?}}}]}}"#)
}

/// Raw contents as values.
pub fn floats(raw: &[u8]) -> Vec<f32> {
    raw.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

pub fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-4, "{found} in place of {expected}");
    }
}

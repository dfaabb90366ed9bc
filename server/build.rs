//! Makes the dispatch of the gRPC services out of their methods, without protoc: the messages are
//! written by hand in `src/protocol.rs`.

use std::path::Path;
use std::{env, fs};

use tonic_build::manual::{Builder, Method, Service};

/// Each method of the protocol that is served, and its name in Rust.
const METHODS: [(&str, &str); 11] = [
    ("ServerLive", "server_live"),
    ("ServerReady", "server_ready"),
    ("ModelReady", "model_ready"),
    ("ServerMetadata", "server_metadata"),
    ("ModelMetadata", "model_metadata"),
    ("ModelConfig", "model_config"),
    ("ModelInfer", "model_infer"),
    ("ModelStatistics", "model_statistics"),
    ("SystemSharedMemoryStatus", "system_shared_memory_status"),
    ("SystemSharedMemoryRegister", "system_shared_memory_register"),
    ("SystemSharedMemoryUnregister", "system_shared_memory_unregister"),
];

/// What most messages are read and written by.
const CODEC: &str = "tonic_prost::ProstCodec";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Set by those who fuzz: `scripts/fuzz.sh`.
    println!("cargo::rustc-check-cfg=cfg(fuzzing)");
    let builder = || Builder::new().build_transport(false);
    builder().build_client(false).compile(&[inference("crate::fields::BoundedCodec"), reports()]);
    // Clients, for the tests.
    let folder = Path::new(&env::var("OUT_DIR").expect("cargo names a folder")).join("clients");
    fs::create_dir_all(&folder).expect("the folder can be written");
    builder().build_server(false).out_dir(folder).compile(&[inference(CODEC), reports()]);
}

/// The protocol, with this codec for inferences.
fn inference(inference_codec: &str) -> Service {
    METHODS
        .iter()
        .fold(
            Service::builder().name("GRPCInferenceService").package("inference"),
            |service, (route, name)| {
                let codec = if *route == "ModelInfer" { inference_codec } else { CODEC };
                let message = |kind: &str| format!("crate::protocol::{route}{kind}");
                service.method(
                    Method::builder()
                        .name(*name)
                        .route_name(*route)
                        .input_type(message("Request"))
                        .output_type(message("Response"))
                        .codec_path(codec)
                        .build(),
                )
            },
        )
        .build()
}

fn reports() -> Service {
    Service::builder()
        .name("OpenRcaService")
        .package("xds.service.orca.v3")
        .method(
            Method::builder()
                .name("stream_core_metrics")
                .route_name("StreamCoreMetrics")
                .input_type("crate::protocol::OrcaLoadReportRequest")
                .output_type("crate::protocol::OrcaLoadReport")
                .codec_path(CODEC)
                .server_streaming()
                .build(),
        )
        .build()
}

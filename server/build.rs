//! Makes the dispatch of the gRPC services out of their methods, without protoc: the messages are
//! written by hand in `src/protocol.rs`.

use tonic_build::manual::{Builder, Method, Service};

/// Each method of the protocol that is served, and its name in Rust.
const METHODS: [(&str, &str); 10] = [
    ("ServerLive", "server_live"),
    ("ServerReady", "server_ready"),
    ("ModelReady", "model_ready"),
    ("ServerMetadata", "server_metadata"),
    ("ModelMetadata", "model_metadata"),
    ("ModelConfig", "model_config"),
    ("ModelInfer", "model_infer"),
    ("SystemSharedMemoryStatus", "system_shared_memory_status"),
    ("SystemSharedMemoryRegister", "system_shared_memory_register"),
    ("SystemSharedMemoryUnregister", "system_shared_memory_unregister"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let inference = METHODS.iter().fold(
        Service::builder().name("GRPCInferenceService").package("inference"),
        |service, (route, name)| {
            let message = |kind: &str| format!("crate::protocol::{route}{kind}");
            service.method(
                Method::builder()
                    .name(*name)
                    .route_name(*route)
                    .input_type(message("Request"))
                    .output_type(message("Response"))
                    .codec_path("tonic_prost::ProstCodec")
                    .build(),
            )
        },
    );
    let reports = Service::builder().name("OpenRcaService").package("xds.service.orca.v3").method(
        Method::builder()
            .name("stream_core_metrics")
            .route_name("StreamCoreMetrics")
            .input_type("crate::protocol::OrcaLoadReportRequest")
            .output_type("crate::protocol::OrcaLoadReport")
            .codec_path("tonic_prost::ProstCodec")
            .server_streaming()
            .build(),
    );
    // Clients too, for the tests.
    Builder::new().build_transport(false).compile(&[inference.build(), reports.build()]);
}

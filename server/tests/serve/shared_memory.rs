//! Images and results in system shared memory.

use std::fs;
use std::path::PathBuf;

use tonic::Code;
use twinstream_server::ServerOptions;

use super::fixture::*;
use super::protocol::*;

/// Shared memory with these bytes, as long as this lives.
struct Memory {
    key: String,
}

impl Memory {
    fn new(test: &str, bytes: &[u8]) -> Self {
        let memory = Self { key: format!("/twinstream-{test}-{}", std::process::id()) };
        fs::write(memory.path(), bytes).unwrap();
        memory
    }

    /// Where Linux has it.
    fn path(&self) -> PathBuf {
        format!("/dev/shm{}", self.key).into()
    }

    fn register(&self, name: &str, byte_size: u64) -> SystemSharedMemoryRegisterRequest {
        let (name, key) = (name.to_owned(), self.key.clone());
        SystemSharedMemoryRegisterRequest { name, key, offset: 0, byte_size }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Some stand for memory that was never there.
        let _ = fs::remove_file(self.path());
    }
}

fn allowed() -> ServerOptions {
    let mut options = ServerOptions::default();
    options.shared_memory = true;
    options
}

/// A part of region `name` as parameters.
fn place(name: &str, offset: i64, byte_size: i64) -> Parameters {
    [
        ("shared_memory_region", Parameter::String(name.to_owned())),
        ("shared_memory_offset", Parameter::Int64(offset)),
        ("shared_memory_byte_size", Parameter::Int64(byte_size)),
    ]
    .map(|(name, value)| (name.to_owned(), InferParameter { parameter_choice: Some(value) }))
    .into()
}

/// A request for one image, whose pixels and result lie in the memory `name`, one after the other.
fn request_in(name: &str) -> ModelInferRequest {
    let mut asked = request(&[]);
    asked.inputs = vec![tensor("UINT8", vec![1, 32, 32, 3])];
    asked.inputs[0].parameters = place(name, 0, IMAGE_BYTES as i64);
    asked.raw_input_contents.clear();
    let parameters = place(name, IMAGE_BYTES as i64, 40);
    asked.outputs = vec![InferRequestedOutputTensor { name: "logits".to_owned(), parameters }];
    asked
}

#[tokio::test]
async fn images_are_read_and_results_written_there() {
    let running = Running::network_with(allowed());
    let mut client = running.client().await;
    let (pixels, expected) = images();
    let contents = [&pixels[..IMAGE_BYTES], &[0; 40]].concat();
    let memory = Memory::new("answers", &contents);
    let result = || floats(&fs::read(memory.path()).unwrap()[IMAGE_BYTES..]);
    let asked = memory.register("both", contents.len() as u64);
    client.system_shared_memory_register(asked).await.unwrap();
    let answer = client.model_infer(request_in("both")).await.unwrap().into_inner();
    assert!(answer.raw_output_contents.is_empty());
    assert_eq!(answer.outputs[0].shape, [1, 10]);
    assert_close(&result(), &expected[..10]);

    // The same over HTTP, whose regions are the same.
    fs::write(memory.path(), &contents).unwrap();
    let input = r#""parameters":{"shared_memory_region":"both","shared_memory_byte_size":3072}"#;
    let output = r#""parameters":{"shared_memory_region":"both","shared_memory_offset":3072,
        "shared_memory_byte_size":40}"#;
    let reply = running.infer(&format!(
        r#"{{"inputs":[{{"name":"image","datatype":"UINT8","shape":[1,32,32,3],{input}}}],
        "outputs":[{{"name":"logits",{output}}}]}}"#
    ));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["outputs"][0]["parameters"]["shared_memory_byte_size"], 40);
    assert_close(&result(), &expected[..10]);

    let regions = running.get("/v2/systemsharedmemory/status").json();
    assert_eq!(regions[0]["byte_size"], contents.len());
    let path = "/v2/systemsharedmemory/region/both/unregister";
    assert_eq!(running.post(path, "", b"").status, 200);
    let status = client.model_infer(request_in("both")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let running = Running::null(allowed());
    let mut client = running.client().await;
    let memory = Memory::new("refused", &[0; 100]);
    let with_key = |key: &str| SystemSharedMemoryRegisterRequest {
        key: key.to_owned(),
        ..memory.register("other", 1)
    };
    let far = SystemSharedMemoryRegisterRequest { offset: u64::MAX, ..memory.register("far", 1) };
    for (asked, text) in [
        (memory.register("long", 101), "has 100"),
        (memory.register("", 100), "has a name"),
        (far, "has 100"),
        (with_key("/twinstream-no-such"), "`/twinstream-no-such`"),
        (with_key("/../../etc/passwd"), "`/../../etc/passwd`"),
    ] {
        let status = client.system_shared_memory_register(asked).await.unwrap_err();
        assert!(status.message().contains(text), "{status}");
    }
    // A link to what lies elsewhere.
    let elsewhere = std::env::temp_dir().join(format!("twinstream-else-{}", std::process::id()));
    fs::write(&elsewhere, [0; 100]).unwrap();
    let link = Memory { key: format!("/twinstream-link-{}", std::process::id()) };
    std::os::unix::fs::symlink(&elsewhere, link.path()).unwrap();
    let status = client.system_shared_memory_register(link.register("link", 100)).await;
    assert!(status.unwrap_err().message().contains(&link.key));
    fs::remove_file(elsewhere).unwrap();
    client.system_shared_memory_register(memory.register("small", 100)).await.unwrap();
    let twice = client.system_shared_memory_register(memory.register("small", 100)).await;
    assert!(twice.unwrap_err().message().contains("already"));
    let status = client.model_infer(request_in("small")).await.unwrap_err();
    assert!(status.message().contains("region `small` has 100"), "{status}");
}

/// Goal: a client that shortens its memory hurts itself alone.
#[tokio::test]
async fn memory_may_be_cut_at_any_time() {
    let running = Running::null(allowed());
    let mut client = running.client().await;
    let memory = Memory::new("cut", &[0; IMAGE_BYTES + 40]);
    let asked = memory.register("cut", IMAGE_BYTES as u64 + 40);
    client.system_shared_memory_register(asked).await.unwrap();
    for len in [IMAGE_BYTES as u64, 10] {
        let file = fs::OpenOptions::new().write(true).open(memory.path()).unwrap();
        file.set_len(len).unwrap();
        let status = client.model_infer(request_in("cut")).await.unwrap_err();
        assert!(status.message().contains("shorter by now"), "{status}");
        assert_eq!(file.metadata().unwrap().len(), len);
    }
    client.model_infer(request(&[0; IMAGE_BYTES])).await.unwrap();
}

#[tokio::test]
async fn it_is_off_unless_allowed() {
    let running = Running::null(Default::default());
    let mut client = running.client().await;
    let memory = Memory::new("off", &[0; 100]);
    let status = client.system_shared_memory_register(memory.register("a", 100)).await.unwrap_err();
    assert!(status.message().contains("--shared-memory"), "{status}");
    let status = client.model_infer(request_in("a")).await.unwrap_err();
    assert!(status.message().contains("--shared-memory"), "{status}");
    let server = client.server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner();
    assert!(!server.extensions.contains(&"system_shared_memory".to_owned()));
}

//! Compiles the C++ ring and names the shared library; needs a C++17 compiler and nothing else.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=cuda/ring");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .files(["cuda/ring/ring.cpp", "cuda/ring/storage.cpp"])
        .flags(["-Wpedantic", "-Wshadow", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden"])
        // The ring calls nothing of the C++ runtime, so services need not link it.
        .cpp_link_stdlib(None)
        .compile("twinstream_ring");

    // Programs linked with the shared library ask for a compatible one: while the major version is
    // 0, that is one with the same minor version.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        let major = env!("CARGO_PKG_VERSION_MAJOR");
        let minor = env!("CARGO_PKG_VERSION_MINOR");
        let name = format!("libtwinstream.so.{major}.{minor}");
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{name}");
    }

    println!("cargo::rustc-check-cfg=cfg(loom)");
    if std::env::var_os("CARGO_CFG_LOOM").is_some() {
        println!("cargo::rerun-if-changed=tests/loom_ring.cpp");
        // Exceptions stay on: a failed check unwinds from the model checker through these frames.
        cc::Build::new()
            .cpp(true)
            .std("c++17")
            .include("cuda/ring")
            .file("tests/loom_ring.cpp")
            .cargo_metadata(false)
            .compile("twinstream_loom_ring");
        let folder = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
        println!("cargo::rustc-link-search=native={folder}");
    }
}

//! Compiles the C++ ring; needs a C++17 compiler and nothing else.

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

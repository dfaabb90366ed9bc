//! Names the shared library, and tells the tests whether its GPU is the emulated one.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(twinstream_emulated)");
    name_library();
    // Said by the library's build.rs.
    if env::var_os("DEP_TWINSTREAM_EMULATED").is_some() {
        println!("cargo::rustc-cfg=twinstream_emulated");
    }
}

/// Programs linked with the shared library ask for a compatible one: while the major version is 0,
/// that is one with the same minor version.
fn name_library() {
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        let major = env!("CARGO_PKG_VERSION_MAJOR");
        let minor = env!("CARGO_PKG_VERSION_MINOR");
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libtwinstream.so.{major}.{minor}");
        // Threads have destructors of ours, and forks a handler: neither may lose its code.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}

//! Tells the tests what the library was built with: the emulated device, NVTX's headers.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(twinstream_emulated)");
    // Said by the library's build.rs.
    if env::var_os("DEP_TWINSTREAM_EMULATED").is_some() {
        println!("cargo::rustc-cfg=twinstream_emulated");
    }
    if let Ok(headers) = env::var("DEP_TWINSTREAM_NVTX_HEADERS") {
        println!("cargo::rustc-env=TWINSTREAM_NVTX_HEADERS={headers}");
    }
}

//! Keeps the library in the process once it was loaded.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A thread may be in it, at its end, when the server unloads it.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}

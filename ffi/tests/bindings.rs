//! The library's bindings of C headers equal what bindgen makes of them.
//!
//! `TWINSTREAM_BINDINGS=write` makes them anew. Skipped where libclang cannot be loaded; fails
//! there if `TWINSTREAM_REQUIRE` names `libclang`.

#[path = "../../tests/common/mod.rs"]
mod common;

use std::panic::catch_unwind;
use std::{env, fs};

use bindgen::{BindgenError, Builder, Formatter, RustTarget};
use common::{repository, skip};

fn bindings(header: &str, opening: &str) -> Result<String, BindgenError> {
    let opening = format!(
        "//! {opening}, made by bindgen from `{header}`.\n\
         //!\n\
         //! Invariant: equals the header; `ffi/tests/bindings.rs` compares the two.\n\
         \n\
         #![allow(dead_code, non_camel_case_types, non_upper_case_globals)]"
    );
    let bindings = Builder::default()
        .header(repository(header).to_string_lossy())
        .allowlist_type("twinstream_.*")
        .allowlist_var("TWINSTREAM_.*")
        .allowlist_function("twinstream_.*")
        .raw_line(opening)
        .disable_header_comment()
        .formatter(Formatter::Prettyplease)
        .rust_target(RustTarget::stable(85, 0).unwrap_or_else(|_| unreachable!()))
        .generate()?;
    Ok(bindings.to_string())
}

#[test]
fn bindings_equal_their_headers() {
    for (header, file, opening) in [
        (
            "cuda/launch.h",
            "src/backend/cuda/kernels/abi.rs",
            "Parameter structs and launch sizes of the kernels",
        ),
        ("cuda/ring/ring.h", "src/ring/ffi.rs", "The C functions of the ring"),
    ] {
        // bindgen panics where it finds no libclang.
        let Ok(made) = catch_unwind(|| bindings(header, opening)) else {
            let reason = "set LIBCLANG_PATH, as scripts/cuda-toolkit.sh prints it";
            skip("libclang", "bindings of C headers", reason);
            return;
        };
        let made = made.unwrap_or_else(|error| panic!("{header}: {error}"));
        let file = repository(file);
        if env::var("TWINSTREAM_BINDINGS").is_ok_and(|wanted| wanted == "write") {
            fs::write(&file, made).unwrap();
            continue;
        }
        assert!(
            fs::read_to_string(&file).unwrap() == made,
            "{} does not match {header}; make it anew: \
             TWINSTREAM_BINDINGS=write cargo test --test bindings",
            file.display()
        );
    }
}

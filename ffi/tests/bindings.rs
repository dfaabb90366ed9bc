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

/// Of names with this prefix, in letters of either case.
fn bindings(header: &str, prefix: &str, opening: &str) -> Result<String, BindgenError> {
    let opening = format!(
        "//! {opening}, made by bindgen from `{header}`.\n\
         //!\n\
         //! Invariant: equals the header; `ffi/tests/bindings.rs` compares the two.\n\
         \n\
         #![allow(dead_code, non_camel_case_types, non_upper_case_globals)]"
    );
    let bindings = Builder::default()
        .header(repository(header).to_string_lossy())
        .allowlist_type(format!("{prefix}.*"))
        .allowlist_var(format!("{}.*", prefix.to_uppercase()))
        .allowlist_function(format!("{prefix}.*"))
        .raw_line(opening)
        .disable_header_comment()
        .formatter(Formatter::Prettyplease)
        .rust_target(RustTarget::stable(85, 0).unwrap_or_else(|_| unreachable!()))
        .generate()?;
    Ok(bindings.to_string())
}

#[test]
fn bindings_equal_their_headers() {
    for (header, prefix, file, opening) in [
        (
            "cuda/launch.h",
            "twinstream_",
            "src/backend/cuda/kernels/abi.rs",
            "Parameter structs and launch sizes of the kernels",
        ),
        (
            "cuda/prove.h",
            "twinstream_prove_",
            "src/backend/cuda/kernels/prove_abi.rs",
            "Structs and sizes of the kernels that prove others",
        ),
        ("cuda/ring/ring.h", "twinstream_", "src/ring/ffi.rs", "The C functions of the ring"),
    ] {
        // bindgen panics where it finds no libclang.
        let Ok(made) = catch_unwind(|| bindings(header, prefix, opening)) else {
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

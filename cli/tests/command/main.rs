//! The command as its users meet it: a process with arguments, files and streams.

#[path = "../../../tests/common/mod.rs"]
mod common;

mod bench;
mod calibrate;
mod classify;
mod config;
mod devices;
mod inspect;
mod simulate;
#[cfg(target_os = "linux")]
mod streams;
#[path = "../../../tests/common/trace_format.rs"]
mod trace_format;

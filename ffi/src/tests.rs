//! The C interface from inside: what C alone can't bring about, such as panics and lost devices.

use std::ffi::CStr;
use std::time::Duration;

use crate::boundary::{check_may_block, in_callback, last_error, panic_boundary};
use crate::held::AnyLease;
use crate::open::Live;
use crate::requests::Notice;
use crate::status::{Failed, Status};
use crate::timing::reason_value;
use crate::{layout, registry};
use twinstream::Result;
use twinstream::backend::{Attachment, Backend, Completion, Fault, Geometry, Null, ResultSlot};
use twinstream::engine::{EngineOptions, RequestOptions};
use twinstream::ring::Slot;
use twinstream::sched::Reason;

const HEADER: &str = include_str!("../twinstream.h");

fn last_text() -> String {
    // SAFETY: a text of this thread that ends with a zero.
    unsafe { CStr::from_ptr(last_error()) }.to_str().unwrap().to_owned()
}

/// The number that the header gives to `name`.
fn in_header(name: &str) -> Option<i64> {
    let line =
        HEADER.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(" = "));
    let digits = line?.split([',', ' ']).next()?;
    digits.parse().ok()
}

#[test]
fn the_header_has_our_values() {
    for (status, name) in Status::ALL {
        let name = name.to_str().unwrap();
        assert_eq!(in_header(name), Some(*status as i64), "{name}");
    }
    let numbers = Status::ALL.iter().map(|(status, _)| *status as i32);
    assert!(numbers.is_sorted_by(|before, after| before < after), "a value is used twice");
    let others = [
        ("TWINSTREAM_BACKEND_CPU", layout::BACKEND_CPU),
        ("TWINSTREAM_BACKEND_CUDA", layout::BACKEND_CUDA),
        ("TWINSTREAM_BACKEND_NULL", layout::BACKEND_NULL),
        ("TWINSTREAM_NOTICE_NONE", layout::NOTICE_NONE),
        ("TWINSTREAM_NOTICE_CALLBACK", layout::NOTICE_CALLBACK),
        ("TWINSTREAM_NOTICE_QUEUE", layout::NOTICE_QUEUE),
        ("TWINSTREAM_MEMORY_CUDA", twinstream::ring::Memory::Cuda as i32),
        ("TWINSTREAM_MEMORY_LOCKED", twinstream::ring::Memory::Locked as i32),
        ("TWINSTREAM_MEMORY_PLAIN", twinstream::ring::Memory::Plain as i32),
        ("TWINSTREAM_LOG_ERROR", log::LevelFilter::Error as i32),
        ("TWINSTREAM_LOG_TRACE", log::LevelFilter::Trace as i32),
    ];
    for (name, value) in others {
        assert_eq!(in_header(name), Some(i64::from(value)), "{name}");
    }
    for reason in Reason::ALL {
        let name = reason.name().to_uppercase().replace('-', "_");
        let value = i64::from(reason_value(reason));
        assert_eq!(in_header(&format!("TWINSTREAM_REASON_{name}")), Some(value), "{name}");
    }
    let version = format!("#define TWINSTREAM_ABI_VERSION {}u", layout::ABI_VERSION);
    assert!(HEADER.contains(&version));
}

#[test]
fn a_panic_becomes_a_status_with_its_text() {
    assert_eq!(panic_boundary(|| panic!("number {}", 7)), Status::Panic as i32);
    assert_eq!(last_text(), "a panic inside Twinstream: number 7");
    assert_eq!(panic_boundary(|| std::panic::panic_any(7)), Status::Panic as i32);
    assert_eq!(last_text(), "a panic inside Twinstream: of unknown kind");
    // Success leaves the text; each thread has its own.
    assert_eq!(panic_boundary(|| Ok(())), Status::Ok as i32);
    assert!(last_text().ends_with("of unknown kind"));
    assert_eq!(std::thread::spawn(last_text).join().unwrap(), "");
}

#[test]
fn long_texts_are_cut_where_a_character_ends() {
    let text = "ä".repeat(1000);
    panic_boundary(|| Err(Failed::new(Status::Argument, text)));
    assert_eq!(last_text(), "ä".repeat(511));
    panic_boundary(|| Err(Failed::new(Status::Argument, "up to\0here")));
    assert_eq!(last_text(), "up to");
}

#[test]
fn every_exported_function_stands_behind_the_panic_boundary() {
    let calls =
        [include_str!("calls.rs"), include_str!("many.rs"), include_str!("timing.rs")].concat();
    let functions: Vec<_> = calls.split("#[unsafe(no_mangle)]").skip(1).collect();
    let without = ["abi_version", "version", "status_name", "last_error"];
    let unguarded: Vec<_> =
        functions.iter().filter(|text| !text.contains("panic_boundary(||")).collect();
    assert!(functions.len() > 20);
    assert_eq!(unguarded.len(), without.len(), "{unguarded:?}");
    for name in without {
        let start = format!("extern \"C\" fn twinstream_{name}(");
        assert!(unguarded.iter().any(|text| text.contains(&start)), "{name}");
    }
}

/// A struct that grew: its first version ended with `old`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
struct Grown {
    struct_size: u32,
    old: u32,
    new: u32,
}

// SAFETY: a plain C struct of integers that opens with `struct_size`.
unsafe impl layout::Versioned for Grown {
    const NAME: &str = "grown";
    const VERSIONS_BYTES: &[usize] = &[8, 12];
}

#[test]
fn structs_of_older_versions_are_read_and_filled_as_far_as_they_go() {
    let missing = Grown { struct_size: 0, old: 10, new: 11 };
    for (struct_size, expected) in [(8, (1, 11)), (12, (1, 2))] {
        let mut theirs = Grown { struct_size, old: 1, new: 2 };
        // SAFETY: it has all the bytes that any version says it has.
        let read = unsafe { layout::read(&raw const theirs, missing) }.unwrap();
        assert_eq!((read.old, read.new), expected);
        let ours = Grown { struct_size: 99, old: 5, new: 6 };
        // SAFETY: the same.
        unsafe { layout::write(&raw mut theirs, &ours) }.unwrap();
        let new = if struct_size == 12 { 6 } else { 2 };
        assert_eq!(theirs, Grown { struct_size, old: 5, new });
    }
    for struct_size in [0, 7, 10, 13, u32::MAX] {
        let theirs = Grown { struct_size, ..missing };
        // SAFETY: no more than `struct_size` is read, as none of these is a version.
        let refused = unsafe { layout::read(&raw const theirs, missing) }.unwrap_err();
        assert_eq!(refused.status, Status::StructSize);
    }
}

#[test]
fn callbacks_may_nest() {
    in_callback(|| {
        in_callback(|| ());
        assert_eq!(check_may_block().unwrap_err().status, Status::InCallback);
    });
    check_may_block().unwrap();
}

/// Does nothing, as [`Null`] does, until an upload after calibration panics or loses the device.
struct Breaks {
    null: Null,
    is_panic: bool,
    upload_len: usize,
}

/// What calibration uploads: three lengths, four times each.
const CALIBRATION_LEN: usize = 12;

impl Backend for Breaks {
    fn geometry(&self) -> Geometry {
        self.null.geometry()
    }

    fn attach(&mut self, attachment: Attachment) -> Result<()> {
        self.null.attach(attachment)
    }

    fn upload(&mut self, slots: &mut Vec<Slot>) {
        self.upload_len += 1;
        assert!(!self.is_panic || self.upload_len <= CALIBRATION_LEN, "on purpose");
        self.null.upload(slots);
    }

    fn compute(&mut self, slots: &[u32]) {
        self.null.compute(slots);
    }

    fn download(&mut self, slots: &[u32], results: &mut Vec<ResultSlot>) {
        self.null.download(slots, results);
    }

    fn poll_upload(&mut self, slots: &mut Vec<Slot>) -> Option<Completion> {
        let completion = self.null.poll_upload(slots)?;
        let is_lost = self.upload_len > CALIBRATION_LEN;
        Some(if is_lost { Err(Fault::lost("the cable was cut")) } else { completion })
    }

    fn poll_compute(&mut self) -> Option<Completion> {
        self.null.poll_compute()
    }

    fn poll_download(&mut self, results: &mut Vec<ResultSlot>) -> Option<Completion> {
        self.null.poll_download(results)
    }
}

fn lease(live: &Live) -> crate::status::Outcome<(u64, *mut u8)> {
    live.requests.hold(&live.engine, AnyLease::One(live.engine.lease()?))
}

/// An engine whose device breaks at its first request: what its owner is told from then on.
fn break_device(is_panic: bool, expected: &str) {
    let geometry = Geometry { image_bytes: 10, result_len: 2, batch_len_max: 4 };
    let device = Breaks { null: Null::new(geometry), is_panic, upload_len: 0 };
    let options = EngineOptions::default().slot_len(4);
    let engine = registry::create(|tag| {
        Live::start(vec![device.into()], &options, tag, ((0, 0), Vec::new()))
    })
    .unwrap();
    let status = |call: &dyn Fn(&Live) -> crate::status::Outcome<()>| {
        panic_boundary(|| registry::with(engine, call))
    };
    let handling = (RequestOptions::default(), Notice::None);
    let answered = status(&|live| {
        let (request, _) = lease(live)?;
        live.requests.commit(request, handling, &live.wakers)?;
        live.requests.wait(request, Some(Duration::from_secs(20)), &live.wakers)?;
        Ok(())
    });
    assert_eq!(answered, Status::DeviceLost as i32, "{}", last_text());
    let leased = status(&|live| lease(live).map(|_| ()));
    assert_eq!(leased, Status::DeviceLost as i32);
    let health = crate::calls::twinstream_engine_health(engine);
    assert_eq!(health, Status::DeviceLost as i32);
    assert!(last_text().contains(expected), "{}", last_text());
    assert_eq!(panic_boundary(|| registry::destroy(engine)), Status::Ok as i32);
    assert_eq!(panic_boundary(|| registry::destroy(engine)), Status::Stale as i32);
}

#[test]
fn a_panicking_device_is_lost() {
    break_device(true, "on purpose");
}

#[test]
fn a_lost_device_says_why() {
    break_device(false, "the cable was cut");
}

/// An engine that ends while a lease is being queued refuses that and wakes for it nevertheless.
#[test]
fn a_wake_without_a_queued_lease_hides_no_answer() {
    let geometry = Geometry { image_bytes: 10, result_len: 2, batch_len_max: 4 };
    let options = EngineOptions::default().slot_len(4);
    let start =
        |tag| Live::start(vec![Null::new(geometry).into()], &options, tag, ((0, 0), Vec::new()));
    let engine = registry::create(start).unwrap();
    let (committed, found) = registry::with(engine, |live| {
        live.wakers.last().unwrap().wake_by_ref();
        let (request, _) = lease(live)?;
        let handling = (RequestOptions::default(), Notice::Queue { user_data: 7 });
        live.requests.commit(request, handling, &live.wakers)?;
        live.requests.wait(request, Some(Duration::from_secs(20)), &live.wakers)?;
        // It is queued once those who wait for it are woken.
        live.engine.drain(Duration::from_secs(20));
        Ok((request, live.requests.next(&live.engine)))
    })
    .unwrap();
    assert_eq!(found, Some((committed, 7)));
    assert_eq!(panic_boundary(|| registry::destroy(engine)), Status::Ok as i32);
}

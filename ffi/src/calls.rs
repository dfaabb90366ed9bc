//! The exported functions: from pointers to references and back, each inside the panic boundary.
//!
//! What each of them promises stands in `ffi/twinstream.h` and is not repeated here. Safety of them
//! all: pointers are NULL or point to what the header says, which holds during the call.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::slice;
use std::time::{Duration, Instant};

use crate::boundary::{self, check_may_block, panic_boundary};
use crate::held::AnyLease;
use crate::layout::{self, LogCallback, not_null, put};
use crate::logging;
use crate::open::{self, BackendOptions, Live, Texts};
use crate::registry::{self, EngineHandle};
use crate::requests::Notice;
use crate::status::{Failed, Outcome, Status};
use twinstream::engine::{self, LatencyHistogram, Refused, RequestOptions};
use twinstream::sched::{Line, Priority, Reason};

/// `TWINSTREAM_FOREVER`.
const FOREVER_NS: u64 = u64::MAX;

/// The library's version for C.
const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version has no zero"),
    };

#[unsafe(no_mangle)]
extern "C" fn twinstream_abi_version() -> u32 {
    layout::ABI_VERSION
}

#[unsafe(no_mangle)]
extern "C" fn twinstream_version() -> *const c_char {
    VERSION.as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn twinstream_status_name(status: i32) -> *const c_char {
    Status::name(status).as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn twinstream_last_error() -> *const c_char {
    boundary::last_error()
}

#[unsafe(no_mangle)]
extern "C" fn twinstream_log_set(
    level: i32,
    callback: Option<LogCallback>,
    user_data: *mut c_void,
) -> i32 {
    panic_boundary(|| logging::set(level, callback, user_data))
}

/// Refuses a header of another version.
fn check_abi(abi_version: u32) -> Outcome<()> {
    if abi_version == layout::ABI_VERSION {
        return Ok(());
    }
    let ours = layout::ABI_VERSION;
    let text = format!("the header's ABI version is {abi_version}, the library's {ours}");
    Err(Failed::new(Status::Abi, text))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn twinstream_options_init(
    options: *mut layout::Options,
    struct_size: usize,
    abi_version: u32,
) -> i32 {
    panic_boundary(|| {
        not_null(options, "options is NULL")?;
        check_abi(abi_version)?;
        let bytes = layout::known_bytes::<layout::Options>(struct_size)?;
        let defaults = layout::Options { struct_size: bytes as u32, ..open::default_options() };
        // SAFETY: not NULL, and as large as the caller says.
        unsafe { layout::fill(options, bytes, &defaults) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn twinstream_engine_create(
    options: *const layout::Options,
    engine: *mut *mut EngineHandle,
) -> i32 {
    panic_boundary(|| {
        not_null(engine, "engine is NULL: nowhere to put it")?;
        check_may_block()?;
        // SAFETY: see the module.
        let options = unsafe { layout::read(options, open::default_options()) }?;
        check_abi(options.abi_version)?;
        // SAFETY: see the module.
        let backend = unsafe { backend_options(&options) }?;
        // SAFETY: see the module.
        let texts = unsafe {
            Texts {
                weights_path: text(options.weights_path),
                config_path: text(options.config_path),
                precision: text(options.precision),
                policy: text(options.policy),
            }
        };
        let created = registry::create(|tag| open::open(&options, &backend, &texts, tag))?;
        // SAFETY: see the module.
        unsafe { put(engine, created) };
        Ok(())
    })
}

/// The options of the backend that is asked for.
///
/// # Safety
/// Those are NULL or what the header says, and outlive what is returned.
unsafe fn backend_options<'a>(options: &layout::Options) -> Outcome<BackendOptions<'a>> {
    let given = [
        (layout::BACKEND_CPU, "cpu", !options.cpu.is_null()),
        (layout::BACKEND_CUDA, "cuda", !options.cuda.is_null()),
        (layout::BACKEND_NULL, "null", !options.null.is_null()),
    ];
    // SAFETY: the caller's word.
    if let Some(backends) = unsafe { text(options.backends) } {
        return match given.iter().find(|(.., is_given)| *is_given) {
            Some((_, name, _)) => {
                argument(format!("options.{name} changes nothing with options.backends"))
            }
            None => Ok(BackendOptions::Several(backends)),
        };
    }
    let Some((_, own, _)) = given.iter().find(|(backend, ..)| *backend == options.backend) else {
        return argument(format!("backend {} is no TWINSTREAM_BACKEND_", options.backend));
    };
    if let Some((_, other, _)) = given.iter().find(|(_, name, is_given)| *is_given && name != own) {
        return argument(format!("options.{other} changes nothing: the backend is {own}"));
    }
    // SAFETY: the caller's word.
    unsafe {
        match options.backend {
            layout::BACKEND_CPU => Ok(BackendOptions::Cpu(or_zero(options.cpu)?)),
            layout::BACKEND_CUDA => {
                let cuda = or_zero(options.cuda)?;
                check_reserved(cuda.reserved)?;
                let (device, tuning_path) = (text(cuda.device), text(cuda.tuning_path));
                Ok(BackendOptions::Cuda { device, tuning_path })
            }
            _ => {
                let null = or_zero(options.null)?;
                check_reserved(null.reserved)?;
                Ok(BackendOptions::Null(null))
            }
        }
    }
}

fn argument<T>(text: String) -> Outcome<T> {
    Err(Failed::new(Status::Argument, text))
}

/// Refuses what may mean something one day.
fn check_reserved(reserved: u32) -> Outcome<()> {
    match reserved {
        0 => Ok(()),
        _ => argument(format!("reserved is {reserved}: must be 0")),
    }
}

/// A struct whose fields are zero where the caller has none: all of them where it is NULL.
///
/// # Safety
/// As for [`layout::read`]; all zeros make a value of it.
unsafe fn or_zero<T: layout::Versioned>(source: *const T) -> Outcome<T> {
    // SAFETY: the caller's word.
    unsafe {
        let zero = MaybeUninit::zeroed().assume_init();
        if source.is_null() { Ok(zero) } else { layout::read(source, zero) }
    }
}

/// # Safety
/// NULL, or a text that ends with a zero and outlives what is returned.
unsafe fn text<'a>(text: *const c_char) -> Option<&'a CStr> {
    // SAFETY: the caller's word.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })
}

#[unsafe(no_mangle)]
extern "C" fn twinstream_engine_destroy(engine: *mut EngineHandle) -> i32 {
    panic_boundary(|| registry::destroy(engine))
}

#[unsafe(no_mangle)]
extern "C" fn twinstream_engine_drain(engine: *mut EngineHandle, timeout_ns: u64) -> i32 {
    panic_boundary(|| {
        check_may_block()?;
        registry::with(engine, |live| {
            match live.engine.drain(timeout(timeout_ns).unwrap_or(Duration::MAX)) {
                true => Ok(()),
                false => Err(Failed::new(Status::Timeout, "some requests were shut down")),
            }
        })
    })
}

/// None for ever.
pub(crate) fn timeout(timeout_ns: u64) -> Option<Duration> {
    (timeout_ns != FOREVER_NS).then(|| Duration::from_nanos(timeout_ns))
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn twinstream_engine_health(engine: *mut EngineHandle) -> i32 {
    panic_boundary(|| {
        registry::with(engine, |live| match (live.engine.refusal(), live.engine.fault()) {
            (None, _) => Ok(()),
            (Some(_), Some(fault)) => Err(Failed::new(Status::DeviceLost, fault.to_string())),
            (Some(refused), None) => Err(refused.into()),
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn twinstream_engine_geometry(
    engine: *mut EngineHandle,
    geometry: *mut layout::Geometry,
) -> i32 {
    panic_boundary(|| {
        registry::with(engine, |live| {
            // SAFETY: see the module.
            unsafe { layout::write(geometry, &live.geometry) }
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn twinstream_engine_label(
    engine: *mut EngineHandle,
    index: u64,
    label: *mut *const c_char,
) -> i32 {
    panic_boundary(|| {
        not_null(label, "label is NULL")?;
        registry::with(engine, |live| {
            let found = usize::try_from(index).ok().and_then(|index| live.labels.get(index));
            let Some(found) = found else {
                let text = format!("no class {index}: there are {}", live.labels.len());
                return Err(Failed::new(Status::Argument, text));
            };
            // SAFETY: see the module.
            unsafe { put(label, found.as_ptr()) };
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn twinstream_engine_stats(
    engine: *mut EngineHandle,
    stats: *mut layout::Stats,
) -> i32 {
    panic_boundary(|| {
        registry::with(engine, |live| {
            // SAFETY: see the module.
            unsafe { layout::write(stats, &snapshot(live)) }
        })
    })
}

fn snapshot(live: &Live) -> layout::Stats {
    let stats = live.engine.stats();
    let line = |line: Line| [line.fixed_ns, line.per_image_ns];
    let part = |histogram: &LatencyHistogram| layout::Latency {
        mean_ns: histogram.mean_ns(),
        p99_ns: histogram.quantile_ns(0.99),
    };
    let batches = |reason| stats.started.compute[reason as usize];
    layout::Stats {
        struct_size: 0,
        reserved: 0,
        accepted: stats.accepted,
        completed: stats.completed,
        rejected: stats.rejected,
        expired: stats.expired,
        cancelled: stats.cancelled,
        failed: stats.failed,
        device_lost: stats.device_lost,
        shut_down: stats.shut_down,
        alive: stats.alive_len,
        waiting: stats.waiting_len as u64,
        arrival_rate_hz: stats.arrival_rate_hz,
        upload: line(stats.fits.upload),
        compute: line(stats.fits.compute),
        download: line(stats.fits.download),
        batches: [Reason::Full, Reason::JustInTime, Reason::Idle, Reason::Deadline, Reason::Flush]
            .map(batches),
        batch_len_mean: stats.batch_lens.mean(),
        batch_len_max: stats.batch_lens.len_max() as u64,
        latency_mean_ns: stats.latency.mean_ns(),
        latency_p50_ns: stats.latency.quantile_ns(0.5),
        latency_p99_ns: stats.latency.quantile_ns(0.99),
        latency_p999_ns: stats.latency.quantile_ns(0.999),
        latency_max_ns: stats.latency.max_ns(),
        uploaded_bytes: stats.uploaded_bytes,
        downloaded_bytes: stats.downloaded_bytes,
        late: stats.late,
        refused: [
            stats.refused.full,
            stats.refused.size,
            stats.refused.shut_down,
            stats.refused.device_lost,
        ],
        slots_in_use: u64::from(stats.slots_in_use),
        slot_len: u64::from(stats.slot_len),
        waiting_time: part(&stats.waiting),
        computing_time: part(&stats.computing),
        notifying_time: part(&stats.notifying),
        callback_ns: stats.callback_ns,
        cache_hits: stats.cache.hits,
        cache_joined: stats.cache.joined,
        cache_misses: stats.cache.misses,
        cache_bytes: stats.cache.bytes,
        cache_is_on: u64::from(stats.cache.is_on),
        devices: stats.devices.len() as u64,
        devices_lost: (stats.devices.len() - stats.devices.left().count()) as u64,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn twinstream_engine_prometheus(
    engine: *mut EngineHandle,
    text: *mut c_char,
    room_bytes: usize,
    needed_bytes: *mut usize,
) -> i32 {
    panic_boundary(|| {
        let found = || registry::with(engine, |live| Ok(live.engine.stats().prometheus()));
        // SAFETY: see the module.
        unsafe { put_text(found, text, room_bytes, needed_bytes) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn twinstream_engines_prometheus(
    engines: *const *mut EngineHandle,
    names: *const *const c_char,
    engine_len: usize,
    text: *mut c_char,
    room_bytes: usize,
    needed_bytes: *mut usize,
) -> i32 {
    panic_boundary(|| {
        not_null(engines, "engines is NULL")?;
        let found = || {
            let mut named = Vec::new();
            for index in 0..engine_len {
                // SAFETY: see the module; there are so many engines and, unless NULL, names.
                let (engine, name) = unsafe {
                    let name = (!names.is_null()).then(|| self::text(*names.add(index))).flatten();
                    (*engines.add(index), name)
                };
                let name =
                    name.map_or(index.to_string(), |name| name.to_string_lossy().into_owned());
                if named.iter().any(|(other, _)| *other == name) {
                    let text = format!("two engines are called \"{name}\": names must differ");
                    return Err(Failed::new(Status::Argument, text));
                }
                named.push((name, registry::with(engine, |live| Ok(live.engine.stats()))?));
            }
            let named: Vec<_> = named.iter().map(|(name, stats)| (&**name, stats)).collect();
            Ok(engine::prometheus(&named))
        };
        // SAFETY: see the module.
        unsafe { put_text(found, text, room_bytes, needed_bytes) }
    })
}

/// Writes as much of what is found as there is room for, and how much room it takes.
///
/// # Safety
/// `text` has room for `room_bytes`, `needed_bytes` may be written; both are checked for NULL.
unsafe fn put_text(
    found: impl FnOnce() -> Outcome<String>,
    text: *mut c_char,
    room_bytes: usize,
    needed_bytes: *mut usize,
) -> Outcome<()> {
    not_null(needed_bytes, "needed_bytes is NULL")?;
    if room_bytes > 0 {
        not_null(text, "text is NULL, though there is room")?;
    }
    let found = found()?;
    // SAFETY: the caller's word; no more is written than there is room for.
    unsafe {
        if room_bytes > 0 {
            let len = found.floor_char_boundary(room_bytes - 1);
            text.cast::<u8>().copy_from_nonoverlapping(found.as_ptr(), len);
            text.add(len).write(0);
        }
        put(needed_bytes, found.len() + 1);
    }
    Ok(())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn twinstream_lease(
    engine: *mut EngineHandle,
    request: *mut u64,
    image: *mut *mut u8,
) -> i32 {
    panic_boundary(|| {
        not_null(request, "request is NULL")?;
        not_null(image, "image is NULL")?;
        let leased = registry::with(engine, |live| {
            live.requests.hold(&live.engine, AnyLease::One(live.engine.lease()?))
        })?;
        // SAFETY: see the module.
        unsafe {
            put(request, leased.0);
            put(image, leased.1);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn twinstream_commit(
    engine: *mut EngineHandle,
    request: u64,
    options: *const layout::RequestOptions,
) -> i32 {
    panic_boundary(|| {
        // SAFETY: see the module.
        let handling = unsafe { handling(options) }?;
        registry::with(engine, |live| live.requests.commit(request, handling, &live.wakers))
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn twinstream_submit(
    engine: *mut EngineHandle,
    image: *const u8,
    image_bytes: usize,
    options: *const layout::RequestOptions,
    request: *mut u64,
) -> i32 {
    panic_boundary(|| {
        not_null(image, "image is NULL")?;
        not_null(request, "request is NULL")?;
        // SAFETY: see the module.
        let handling = unsafe { handling(options) }?;
        let submitted = registry::with(engine, |live| {
            if image_bytes as u64 != live.geometry.image_bytes {
                live.engine.refused(Refused::Size);
                let expected = live.geometry.image_bytes;
                let text = format!("the image has {image_bytes} bytes: expected {expected}");
                return Err(Failed::new(Status::ImageSize, text));
            }
            let lease = AnyLease::One(live.engine.lease()?);
            let (leased, place) = live.requests.hold(&live.engine, lease)?;
            // SAFETY: the caller's image has so many bytes, and the lease's place as well, which
            // nobody else knows yet.
            unsafe {
                let place = slice::from_raw_parts_mut(place, image_bytes);
                place.copy_from_slice(slice::from_raw_parts(image, image_bytes));
            }
            live.requests.commit_or_release(leased, handling, &live.wakers)
        })?;
        // SAFETY: see the module.
        unsafe { put(request, submitted) };
        Ok(())
    })
}

/// What the options of a request, or none, come to.
///
/// # Safety
/// As for [`layout::read`].
pub(crate) unsafe fn handling(
    options: *const layout::RequestOptions,
) -> Outcome<(RequestOptions, Notice)> {
    if options.is_null() {
        return Ok((RequestOptions::default(), Notice::None));
    }
    // SAFETY: the caller's word.
    let options = unsafe { layout::read(options, layout::RequestOptions::default()) }?;
    check_reserved(options.reserved)?;
    let priority = match options.priority {
        -1 => Priority::Low,
        0 => Priority::Normal,
        1 => Priority::High,
        other => return argument(format!("{other} is no TWINSTREAM_PRIORITY_")),
    };
    let user_data = options.user_data.expose_provenance();
    let notice = match (options.notice, options.callback) {
        (layout::NOTICE_NONE | layout::NOTICE_QUEUE, Some(_)) => {
            return argument("a callback needs TWINSTREAM_NOTICE_CALLBACK".to_owned());
        }
        (layout::NOTICE_NONE, None) => Notice::None,
        (layout::NOTICE_CALLBACK, Some(callback)) => Notice::Callback { callback, user_data },
        (layout::NOTICE_CALLBACK, None) => {
            return Err(Failed::new(Status::Null, "callback is NULL"));
        }
        (layout::NOTICE_QUEUE, None) => Notice::Queue { user_data },
        (other, _) => return argument(format!("{other} is no TWINSTREAM_NOTICE_")),
    };
    let deadline = open::duration(options.deadline_after_ns)
        .and_then(|after| Instant::now().checked_add(after));
    Ok((RequestOptions::default().deadline(deadline).priority(priority), notice))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn twinstream_wait(
    engine: *mut EngineHandle,
    request: u64,
    timeout_ns: u64,
    result: *mut *const f32,
) -> i32 {
    panic_boundary(|| {
        let timeout = timeout(timeout_ns);
        let found =
            registry::with(engine, |live| live.requests.wait(request, timeout, &live.wakers))?;
        // SAFETY: see the module.
        unsafe { put(result, found) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn twinstream_poll(
    engine: *mut EngineHandle,
    request: u64,
    result: *mut *const f32,
) -> i32 {
    panic_boundary(|| {
        let found = registry::with(engine, |live| live.requests.poll(request))?;
        // SAFETY: see the module.
        unsafe { put(result, found) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn twinstream_cancel(engine: *mut EngineHandle, request: u64) -> i32 {
    panic_boundary(|| registry::with(engine, |live| live.requests.cancel(request)))
}

#[unsafe(no_mangle)]
extern "C" fn twinstream_release(engine: *mut EngineHandle, request: u64) -> i32 {
    panic_boundary(|| registry::with(engine, |live| live.requests.release(request)))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn twinstream_queue_descriptor(
    engine: *mut EngineHandle,
    descriptor: *mut c_int,
) -> i32 {
    panic_boundary(|| {
        not_null(descriptor, "descriptor is NULL")?;
        registry::with(engine, |live| {
            let found = live.requests.completions().descriptor().ok_or_else(|| {
                Failed::new(Status::Unsupported, "this system has no descriptors for events")
            })?;
            // SAFETY: see the module.
            unsafe { put(descriptor, found) };
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn twinstream_queue_next(
    engine: *mut EngineHandle,
    request: *mut u64,
    user_data: *mut *mut c_void,
) -> i32 {
    panic_boundary(|| {
        not_null(request, "request is NULL")?;
        let next = registry::with(engine, |live| Ok(live.requests.next(&live.engine)))?;
        let Some((found, data)) = next else {
            return Err(Failed::new(Status::Empty, "no completion is queued"));
        };
        // SAFETY: see the module.
        unsafe {
            put(request, found);
            put(user_data, std::ptr::with_exposed_provenance_mut(data));
        }
        Ok(())
    })
}

//! The exported functions for several images as one, and for waiting until there is room.
//!
//! As in `calls.rs`, what each function promises stands in `ffi/twinstream.h`, and pointers are
//! NULL or point to what it says.

use std::ffi::c_void;
use std::slice;
use std::time::Duration;

use crate::boundary::{check_may_block, panic_boundary};
use crate::calls::{handling, timeout};
use crate::held::AnyLease;
use crate::layout::{self, not_null, put};
use crate::open::Live;
use crate::registry::{self, EngineHandle};
use crate::status::{Failed, Outcome, Status};
use twinstream::engine::{Engine, ManyLease, Refused};

/// What `wait` leases within the timeout; on the engine's thread, what `at_once` does.
fn lease_within<T>(
    timeout_ns: u64,
    at_once: impl FnOnce() -> Result<T, Refused>,
    wait: impl FnOnce(Duration) -> Result<T, Refused>,
) -> Outcome<T> {
    if timeout_ns == 0 {
        return Ok(at_once()?);
    }
    match check_may_block() {
        Ok(()) => Ok(wait(timeout(timeout_ns).unwrap_or(Duration::MAX))?),
        Err(in_callback) => match at_once() {
            Err(Refused::Full) => Err(in_callback),
            leased => Ok(leased?),
        },
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn twinstream_lease_wait(
    engine: *mut EngineHandle,
    timeout_ns: u64,
    request: *mut u64,
    image: *mut *mut u8,
) -> i32 {
    panic_boundary(|| {
        not_null(request, "request is NULL")?;
        not_null(image, "image is NULL")?;
        let (found, place) = registry::with(engine, |live| {
            let Live { engine, requests, .. } = live;
            let leased =
                lease_within(timeout_ns, || engine.lease(), |time| engine.lease_timeout(time))?;
            requests.hold(engine, AnyLease::One(leased))
        })?;
        // SAFETY: see `calls.rs`.
        unsafe {
            put(request, found);
            put(image, place);
        }
        Ok(())
    })
}

/// As [`Engine::lease_many_timeout`], with a text that names the limit.
fn lease_many(live: &Live, len: usize, timeout_ns: u64) -> Outcome<ManyLease> {
    let engine: &Engine = &live.engine;
    let at_once = || engine.lease_many(len);
    let leased = lease_within(timeout_ns, at_once, |time| engine.lease_many_timeout(len, time));
    leased.map_err(|failed| match failed.status {
        Status::Argument => {
            let slot_len = engine.stats().slot_len;
            let text = format!("{len} images: one request has from 1 to slot_len, {slot_len}");
            Failed::new(Status::Argument, text)
        }
        _ => failed,
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn twinstream_lease_many(
    engine: *mut EngineHandle,
    image_len: usize,
    timeout_ns: u64,
    request: *mut u64,
    images: *mut *mut u8,
) -> i32 {
    panic_boundary(|| {
        not_null(request, "request is NULL")?;
        not_null(images, "images is NULL")?;
        let found = registry::with(engine, |live| {
            let mut lease = AnyLease::Many(lease_many(live, image_len, timeout_ns)?);
            let mut places = images;
            lease.images(|image| {
                // SAFETY: see `calls.rs`: room for as many pointers as there are images.
                unsafe {
                    places.write(image);
                    places = places.add(1);
                }
            });
            Ok(live.requests.hold(&live.engine, lease)?.0)
        })?;
        // SAFETY: see `calls.rs`.
        unsafe { put(request, found) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn twinstream_submit_many(
    engine: *mut EngineHandle,
    images: *const u8,
    images_bytes: usize,
    options: *const layout::RequestOptions,
    request: *mut u64,
) -> i32 {
    panic_boundary(|| {
        not_null(images, "images is NULL")?;
        not_null(request, "request is NULL")?;
        // SAFETY: see `calls.rs`.
        let handling = unsafe { handling(options) }?;
        let submitted = registry::with(engine, |live| {
            let image_bytes = live.geometry.image_bytes as usize;
            if !images_bytes.is_multiple_of(image_bytes) {
                live.engine.refused(Refused::Size);
                let text = format!("{images_bytes} bytes: an image has {image_bytes}");
                return Err(Failed::new(Status::ImageSize, text));
            }
            let mut lease = lease_many(live, images_bytes / image_bytes, 0)?;
            // SAFETY: the caller's images have so many bytes.
            let images = unsafe { slice::from_raw_parts(images, images_bytes) };
            for (place, image) in lease.images_mut().zip(images.chunks(image_bytes)) {
                place.copy_from_slice(image);
            }
            let (leased, _) = live.requests.hold(&live.engine, AnyLease::Many(lease))?;
            live.requests.commit_or_release(leased, handling, &live.wakers)
        })?;
        // SAFETY: see `calls.rs`.
        unsafe { put(request, submitted) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn twinstream_results(
    engine: *mut EngineHandle,
    request: u64,
    image_len: usize,
    statuses: *mut i32,
    results: *mut *const f32,
) -> i32 {
    panic_boundary(|| {
        registry::with(engine, |live| {
            let mut image = 0;
            live.requests.results(request, image_len, |answer| {
                let (status, result) = match answer {
                    Ok(result) => (Status::Ok, result),
                    Err(failure) => (Failed::from(failure).status, std::ptr::null()),
                };
                // SAFETY: see `calls.rs`: NULL, or room for as many as there are images.
                unsafe {
                    if !statuses.is_null() {
                        statuses.add(image).write(status as i32);
                    }
                    if !results.is_null() {
                        results.add(image).write(result);
                    }
                }
                image += 1;
            })
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn twinstream_queue_lease(engine: *mut EngineHandle, user_data: *mut c_void) -> i32 {
    panic_boundary(|| {
        let user_data = user_data.expose_provenance();
        registry::with(engine, |live| {
            live.requests.queue_lease(&live.engine, user_data, &live.wakers)
        })
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn twinstream_image(
    engine: *mut EngineHandle,
    request: u64,
    image: *mut *mut u8,
) -> i32 {
    panic_boundary(|| {
        not_null(image, "image is NULL")?;
        let found = registry::with(engine, |live| live.requests.image(request))?;
        // SAFETY: see `calls.rs`.
        unsafe { put(image, found) };
        Ok(())
    })
}

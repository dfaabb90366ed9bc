//! Makes the driver: attaches the backends, times them and lets the scheduler know.
//!
//! Invariant: either all devices serve or none does. An error names the device that is its reason,
//! where there are several.

use std::sync::Arc;
use std::task::Waker;
use std::thread;

use super::super::announced::Told;
use super::super::cache::Cache;
use super::super::calibrate::{Calibration, calibrate};
use super::super::contain::contain;
use super::super::entries::Entries;
use super::super::lane::{Device, Lane};
use super::super::options::EngineOptions;
use super::super::pin;
use super::super::shared::{NEVER_NS, Receivers, Request, Shared};
use super::super::stats::Stats;
use super::{Driver, NO_SLOT, Unpark, in_ns};
use crate::backend::{Backend, Fault};
use crate::error::{Error, Kind, Result};
use crate::ring::Consumer;
use crate::sched::{Config, Policy, Scheduler, Stage};

pub(super) fn start<'a>(
    (backends, policy): (Vec<Box<dyn Backend>>, Box<dyn Policy>),
    shared: &'a Shared,
    receivers: Receivers,
    options: &EngineOptions,
) -> Result<Driver<'a>> {
    let Receivers { mut images, cancels, landings } = receivers;
    let geometry = shared.geometry;
    let batch_len_max = options.batch_len_max.min(geometry.batch_len_max).min(options.slot_len);
    let devices = attach(backends, shared, batch_len_max)?;
    // After the backends have started their threads, which would inherit it.
    if let Some(core) = options.core {
        pin::pin(core)?;
    }
    let cache = match &shared.hashing {
        Some(hashing) => Some(Cache::new(hashing, options, geometry)?),
        None => None,
    };
    let (devices, calibrations) = time(devices, shared, &mut images, (options, batch_len_max))?;
    let config = Config {
        slot_len: options.slot_len,
        batch_len_max,
        latency_bound_ns: options.latency_bound.map(in_ns),
        policy: options.policy,
        lines: calibrations.iter().map(|calibration| calibration.lines).collect(),
    };
    let mut scheduler = Scheduler::with_policy(&config, policy);
    for (lane, calibration) in calibrations.iter().enumerate() {
        calibration.teach(&mut scheduler, lane);
    }
    let alone_ns = |lane| scheduler.cost(lane).predict_ns(Stage::Compute, 1);
    shared.board.open((0..devices.len()).map(alone_ns).min().unwrap_or(0));
    scheduler.replace_trace(shared.traces.empty());
    // Loggers are the program's code here as below.
    let _ = contain(|| {
        for (lane, lines) in config.lines.iter().enumerate() {
            let device = name(lane, devices.len());
            log::info!("engine started: {device}at most {batch_len_max} images a batch, {lines:?}");
        }
    });
    let sizes = (options.slot_len, batch_len_max);
    let lane = |(device, landings)| Lane::new(device, landings, sizes, options.stall_timeout);
    let stats = Box::new(Stats::new(shared.now_ns(), devices.len()));
    Ok(Driver {
        shared,
        lanes: devices.into_iter().zip(landings).map(lane).collect(),
        retired: Vec::new(),
        images,
        cancels,
        scheduler,
        told: Told::new(&shared.board),
        cache,
        entries: Entries::new(options.slot_len),
        slot_of_cell: vec![NO_SLOT; shared.cells.len()],
        given_up: Vec::with_capacity(options.slot_len),
        busy_ns: 0,
        published_ns: 0,
        is_draining: false,
        geometry,
        latency_bound_ns: config.latency_bound_ns.unwrap_or(NEVER_NS),
        stats,
    })
}

/// What a message about a device begins with: nothing where it is the only one.
pub(super) fn name(lane: usize, lane_len: usize) -> String {
    if lane_len > 1 { format!("device {lane}: ") } else { String::new() }
}

fn attach(
    backends: Vec<Box<dyn Backend>>,
    shared: &Shared,
    batch_len_max: usize,
) -> Result<Vec<Device>> {
    let lane_len = backends.len();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut devices = Vec::with_capacity(lane_len);
    for (lane, backend) in backends.into_iter().enumerate() {
        let mut device = Device::new(backend, shared);
        let attached = contain(|| device.attach(shared, batch_len_max, waker.clone()));
        if let Err(error) = attached.unwrap_or_else(|text| Err(Error::new(Kind::Device, text))) {
            give_up(device, &error);
            return Err(error.within(&name(lane, lane_len)));
        }
        devices.push(device);
    }
    Ok(devices)
}

/// Times one device after the other, so that none disturbs another.
fn time(
    devices: Vec<Device>,
    shared: &Shared,
    images: &mut Consumer<Request>,
    (options, batch_len_max): (&EngineOptions, usize),
) -> Result<(Vec<Device>, Vec<Calibration>)> {
    let lane_len = devices.len();
    if let Some(lines) = options.costs {
        return Ok((devices, vec![Calibration::given(lines); lane_len]));
    }
    let (mut timed, mut calibrations) = (Vec::with_capacity(lane_len), Vec::new());
    for (lane, mut device) in devices.into_iter().enumerate() {
        let timeout = options.stall_timeout;
        let calibration =
            contain(|| calibrate(&mut device, shared, images, batch_len_max, timeout));
        let calibration = calibration.unwrap_or_else(|text| Err(Fault::lost(text)));
        match calibration.map_err(calibration_error) {
            Ok(calibration) => calibrations.push(calibration),
            Err(error) => {
                give_up(device, &error);
                return Err(error.within(&name(lane, lane_len)));
            }
        }
        timed.push(device);
    }
    Ok((timed, calibrations))
}

fn calibration_error(fault: Fault) -> Error {
    Error::new(Kind::Device, format!("calibration: {fault}")).with_source(fault)
}

/// A device that failed may hang, and there is no work to wait for.
fn give_up(device: Device, error: &Error) {
    match error.is_device() {
        true => std::mem::forget(device),
        false => drop(device),
    }
}

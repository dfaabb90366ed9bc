//! What each device of a world did, as its events tell.
//!
//! Invariant: a batch counts where its computing ended; the time that a device spent on one that it
//! lost counts until then.

use super::event::{Event, Observer};
use crate::sched::Stage;

/// What a device computed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceUse {
    /// Batches that it computed to their end.
    pub batch_count: u64,
    /// Images in them.
    pub batched_len: u64,
    /// How long its compute engine was busy, in nanoseconds of virtual time.
    pub busy_ns: u64,
    /// Begin and images of the batch that it computes.
    computing: Option<(u64, u64)>,
}

/// Watches a world, and counts for each of its devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    devices: Vec<DeviceUse>,
    end_ns: u64,
}

impl Usage {
    /// Of so many devices, which have done nothing yet.
    pub fn new(device_len: usize) -> Self {
        Self { devices: vec![DeviceUse::default(); device_len], end_ns: 0 }
    }

    /// Of each device, in the order of the lanes.
    pub fn devices(&self) -> &[DeviceUse] {
        &self.devices
    }

    /// The share of the world's time in which a device was busy, up to the last answer or batch.
    pub fn busy_share(&self, lane: usize) -> f64 {
        self.devices[lane].busy_ns as f64 / self.end_ns.max(1) as f64
    }

    /// A device computes no longer what it did: how many images, if any.
    fn stopped(&mut self, now_ns: u64, lane: usize) -> Option<u64> {
        let device = &mut self.devices[lane];
        let (start_ns, batch_len) = device.computing.take()?;
        device.busy_ns += now_ns - start_ns;
        self.end_ns = now_ns;
        Some(batch_len)
    }
}

impl Observer for Usage {
    fn event(&mut self, now_ns: u64, event: &Event<'_>) {
        match *event {
            Event::Asked { lane, stage: Stage::Compute, slots, span_ns, .. } => {
                self.devices[lane].computing = Some((span_ns.0, slots.len() as u64));
            }
            Event::Ended { lane, stage: Stage::Compute, is_failed } => {
                if let Some(batch_len) = self.stopped(now_ns, lane).filter(|_| !is_failed) {
                    self.devices[lane].batch_count += 1;
                    self.devices[lane].batched_len += batch_len;
                }
            }
            Event::Lost { lane } => {
                self.stopped(now_ns, lane);
            }
            Event::Finished { .. } => self.end_ns = now_ns,
            _ => {}
        }
    }
}

//! Several devices behind the scheduler: which, what becomes of them, and what each did.

use serde::Serialize;
use twinstream::sched::PolicySpec;
use twinstream::sim::device::DeviceSpec;
use twinstream::sim::plan::DEVICE_LEN_MAX;
use twinstream::sim::{DeviceUse, Outage, Usage};

use crate::outcome::Usage as WrongUsage;
use crate::table::{self, Column};
use crate::words::{device_count, place};

/// See the module.
#[derive(clap::Args)]
pub(super) struct Options {
    /// Profile (gtx-1080ti, h100), file, or lines: up=12us+6us,compute=500us+25us,down=10us+100ns.
    /// Given several times: devices that differ, behind one queue.
    #[arg(long, required = true)]
    device: Vec<DeviceSpec>,
    /// So many devices that are alike, behind one queue.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = device_count)]
    devices: usize,
    /// The devices' uploads share one link; else each has its own.
    #[arg(long)]
    shared_link: bool,
    /// A device, the first is 0, that fails so long after the start, and when it is back, if ever:
    /// 0,10s,20s. May be given several times.
    #[arg(long, value_name = "DEVICE,FROM[,UNTIL]", conflicts_with = "network")]
    outage: Vec<Outage>,
}

/// The devices of a world, and what becomes of them.
pub(super) struct Devices {
    pub(super) specs: Vec<DeviceSpec>,
    pub(super) is_link_shared: bool,
    pub(super) outages: Vec<Outage>,
}

impl Options {
    pub(super) fn devices(&self) -> Result<Devices, WrongUsage> {
        let specs = match (&self.device[..], self.devices) {
            ([device], len) => vec![device.clone(); len],
            (devices, 1) if devices.len() <= DEVICE_LEN_MAX => devices.to_vec(),
            (devices, 1) => {
                let len = devices.len();
                let message =
                    format!("{len} times --device; at most {DEVICE_LEN_MAX} are simulated");
                return Err(WrongUsage(message));
            }
            (devices, len) => {
                return Err(WrongUsage(format!(
                    "--devices {len} are alike, but --device names {}; name one, or leave \
                     --devices out",
                    devices.len()
                )));
            }
        };
        if let Some(Outage { lane, .. }) = self.outage.iter().find(|out| out.lane >= specs.len()) {
            let last = specs.len() - 1;
            return Err(WrongUsage(format!(
                "--outage is of device {lane}, but the last one is {last}; they count from 0"
            )));
        }
        let (is_link_shared, outages) = (self.shared_link, self.outage.clone());
        Ok(Devices { specs, is_link_shared, outages })
    }
}

impl Devices {
    /// In words.
    pub(super) fn place(&self) -> String {
        let first = &self.specs[0];
        if self.specs.iter().all(|spec| spec == first) {
            return place(&first.name, self.specs.len());
        }
        self.specs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(" + ")
    }

    /// What one image takes alone on the quickest.
    pub(super) fn alone_ns(&self) -> f64 {
        self.specs.iter().map(DeviceSpec::alone_ns).fold(f64::INFINITY, f64::min)
    }
}

/// What a device did in a policy's run.
#[derive(Clone, Serialize)]
pub(super) struct Share {
    #[serde(skip)]
    policy: String,
    /// Behind a network, of which host.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<usize>,
    index: usize,
    device: String,
    batches: u64,
    images: u64,
    busy_share: f64,
}

/// What each device did, host by host; none where there is but one.
pub(super) fn shares(
    policy: PolicySpec,
    devices: &Devices,
    usage: &[Usage],
    is_behind_network: bool,
) -> Option<Vec<Share>> {
    let share = |host: usize, usage: &Usage, (index, done): (usize, &DeviceUse)| Share {
        policy: policy.to_string(),
        host: is_behind_network.then_some(host),
        index,
        device: devices.specs[index].name.clone(),
        batches: done.batch_count,
        images: done.batched_len,
        busy_share: usage.busy_share(index),
    };
    let of_host = |(host, usage): (usize, &Usage)| {
        let done = usage.devices().iter().enumerate();
        done.map(|done| share(host, usage, done)).collect::<Vec<_>>()
    };
    (devices.specs.len() > 1).then(|| usage.iter().enumerate().flat_map(of_host).collect())
}

/// A table of what each of several devices did.
pub(super) fn print(shares: &[Share]) -> anyhow::Result<()> {
    Ok(table::print(&format!("\n{}", table::text(&COLUMNS, 2, shares)))?)
}

const COLUMNS: [Column<Share>; 5] = [
    ("policy", |row| row.policy.clone()),
    ("device", |row| match row.host {
        Some(host) => format!("{} of host {host}", row.index),
        None => row.index.to_string(),
    }),
    ("batches", |row| row.batches.to_string()),
    ("images", |row| row.images.to_string()),
    ("busy", |row| format!("{:.1} %", 100.0 * row.busy_share)),
];

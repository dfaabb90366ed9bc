//! A device as the scheduling thread works with it: its backend, and what it has of requests.
//!
//! Invariant: a device that is lost has nothing that a request needs as long as others serve:
//! images are lent to it, and its results land in slots of its own. A panic of its backend loses
//! it, and nothing else. Decides nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::contain::contain;
use super::entries::Entries;
use super::shared::{Request, Shared};
use super::stall::StallWatchdog;
use crate::backend::{Attachment, Backend, Completion, Fault, ResultSlot};
use crate::error::Result;
use crate::ring::{Reader, Slot};
use crate::sched::{Scheduler, Stage, Stages};

/// A backend, and by what it reads images.
pub(super) struct Device {
    pub(super) backend: Box<dyn Backend>,
    pub(super) images: Arc<Reader<Request>>,
}

impl Device {
    pub(super) fn new(backend: Box<dyn Backend>, shared: &Shared) -> Self {
        Self { backend, images: Arc::new(shared.images.reader()) }
    }

    pub(super) fn attach(
        &mut self,
        shared: &Shared,
        batch_len_max: usize,
        waker: Waker,
    ) -> Result<()> {
        let depth = Scheduler::DEPTH;
        let mut attachment = Attachment::new(&shared.images, batch_len_max, depth, waker);
        attachment.images = Arc::clone(&self.images) as _;
        self.backend.attach(attachment)
    }

    /// Drops it on a thread of its own: its destructor may wait for work under way, which must not
    /// delay others. None where there is no such thread: then it is never dropped.
    pub(super) fn retire(self) -> Option<JoinHandle<()>> {
        let device = std::mem::ManuallyDrop::new(self);
        let retire = move || std::mem::ManuallyDrop::into_inner(device).end();
        thread::Builder::new().name("twinstream-end".to_owned()).spawn(retire).ok()
    }

    /// Drops it.
    pub(super) fn end(self) {
        if let Err(text) = contain(|| drop(self)) {
            let _ = contain(|| log::error!("a backend as it was dropped: {text}"));
        }
    }
}

/// How a device was lost.
pub(super) enum Loss {
    /// It said so, or panicked.
    Fault(Fault),
    /// It is not to be touched again: even its destructor may not return.
    Stall(Fault),
}

/// See the module.
pub(super) struct Lane {
    /// None once it is lost and others serve.
    device: Option<Device>,
    /// Where its results land, those that are free; none where they go to their requests at once,
    /// as there is no other device.
    landings: Option<Vec<ResultSlot>>,
    /// Lists on their way to or from the backend, empty otherwise.
    slots: Vec<Slot>,
    results: Vec<ResultSlot>,
    /// Slots of the downloads in flight, in order.
    downloading: VecDeque<u32>,
    /// Stages in flight; 0 once it is lost.
    in_flight_len: usize,
    /// Since one of them last ended, or the first of them began.
    watchdog: StallWatchdog,
    /// When the latest work of each stage is expected to end; 0 if none is in flight.
    expected_ns: Stages<u64>,
}

impl Lane {
    pub(super) fn new(
        device: Device,
        landings: Option<Vec<ResultSlot>>,
        (slot_len, batch_len_max): (usize, usize),
        stall_timeout: Duration,
    ) -> Self {
        Self {
            device: Some(device),
            landings,
            slots: Vec::with_capacity(batch_len_max),
            results: Vec::with_capacity(batch_len_max),
            downloading: VecDeque::with_capacity(slot_len),
            in_flight_len: 0,
            watchdog: StallWatchdog::new(stall_timeout),
            expected_ns: Stages::default(),
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.device.is_none()
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight_len > 0
    }

    /// Starts a stage.
    ///
    /// # Errors
    /// The backend panicked.
    pub(super) fn start(
        &mut self,
        now_ns: u64,
        stage: Stage,
        slots: &[u32],
        entries: &mut Entries,
    ) -> std::result::Result<(), Fault> {
        if self.in_flight_len == 0 {
            self.watchdog.end(now_ns);
        }
        self.in_flight_len += 1;
        contain(|| self.submit(stage, slots, entries)).map_err(Fault::lost)
    }

    fn submit(&mut self, stage: Stage, slots: &[u32], entries: &mut Entries) {
        let Device { backend, images } = self.device.as_mut().expect("a lost device has no work");
        match stage {
            Stage::Upload => {
                let lent = slots.iter().map(|&slot| images.lend(&entries.of(slot).image));
                self.slots.extend(lent);
                self.slots.sort_unstable();
                backend.upload(&mut self.slots);
            }
            Stage::Compute => backend.compute(slots),
            Stage::Download => {
                match &mut self.landings {
                    Some(free) => self.results.extend(free.drain(free.len() - slots.len()..)),
                    None => {
                        let own = slots.iter().map(|&slot| entries.of_mut(slot).result.take());
                        self.results.extend(own.map(|result| result.expect("downloaded once")));
                    }
                }
                self.downloading.extend(slots);
                backend.download(slots, &mut self.results);
            }
        }
    }

    /// Reports work of a stage that ended since: the oldest first.
    pub(super) fn poll(&mut self, stage: Stage, entries: &mut Entries) -> Option<Completion> {
        let Device { backend, images } = self.device.as_mut()?;
        let (slots, results) = (&mut self.slots, &mut self.results);
        let (landings, downloading) = (&mut self.landings, &mut self.downloading);
        let polled = contain(|| match stage {
            Stage::Upload => {
                let completion = backend.poll_upload(slots)?;
                images.take_back(slots.drain(..));
                Some(completion)
            }
            Stage::Compute => backend.poll_compute(),
            Stage::Download => {
                let completion = backend.poll_download(results)?;
                for result in results.drain(..) {
                    let slot = downloading.pop_front().expect("a result that was asked for");
                    let own = &mut entries.of_mut(slot).result;
                    match landings {
                        Some(free) => {
                            own.as_mut().expect("it stays here").copy_from_slice(&result);
                            free.push(result);
                        }
                        None => *own = Some(result),
                    }
                }
                Some(completion)
            }
        });
        polled.unwrap_or_else(|text| Some(Err(Fault::lost(text))))
    }

    /// Says when the latest work of a stage is expected to end.
    pub(super) fn expect(&mut self, stage: Stage, end_ns: u64) {
        *self.expected_ns.of_mut(stage) = end_ns;
    }

    /// A stage's oldest work was reported.
    pub(super) fn ended(&mut self, now_ns: u64, stage: Stage) {
        self.in_flight_len -= 1;
        self.watchdog.end(now_ns);
        *self.expected_ns.of_mut(stage) = 0;
    }

    /// Whether it has had work for too long and ended none of it.
    pub(super) fn is_stalled(&mut self, now_ns: u64) -> bool {
        self.in_flight_len > 0 && self.watchdog.is_stalled(now_ns)
    }

    /// What a stalled device is reported as.
    pub(super) fn stall(&self) -> Fault {
        self.watchdog.fault()
    }

    /// By when to look whether it is stalled, if it has work.
    pub(super) fn due_ns(&self) -> Option<u64> {
        self.is_in_flight().then(|| self.watchdog.due_ns())
    }

    /// When what is in flight is expected to end; 0 where nothing is.
    pub(super) fn expected_ns(&self) -> [u64; 3] {
        let Stages { upload, compute, download } = self.expected_ns;
        [upload, compute, download]
    }

    /// The thread that polls is about to sleep.
    ///
    /// # Errors
    /// The backend panicked.
    pub(super) fn before_sleep(&mut self) -> std::result::Result<(), Fault> {
        match &mut self.device {
            Some(device) if self.in_flight_len > 0 => {
                contain(|| device.backend.before_sleep()).map_err(Fault::lost)
            }
            _ => Ok(()),
        }
    }

    /// Forgets what its device works on, and hands that out.
    pub(super) fn give_up(&mut self) -> Option<Device> {
        self.slots.clear();
        self.results.clear();
        self.downloading.clear();
        self.in_flight_len = 0;
        self.expected_ns = Stages::default();
        self.device.take()
    }
}

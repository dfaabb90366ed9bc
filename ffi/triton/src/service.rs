//! An engine and what the requests of its instances share.

use std::sync::{Arc, Mutex};

use twinstream::engine::{Engine, EngineOptions};

use crate::batches::Batches;
use crate::config::Sizes;
use crate::status::Outcome;
use crate::watch::Watch;

/// See the module.
pub(crate) struct Service {
    pub(crate) engine: Engine,
    pub(crate) sizes: Sizes,
    pub(crate) watch: Arc<Watch>,
    pub(crate) batches: Mutex<Batches>,
}

impl Service {
    pub(crate) fn new(engine: Engine, sizes: Sizes) -> Outcome<Self> {
        // So many results have a place at a time.
        let batches = Mutex::new(Batches::new(2 * EngineOptions::default().slot_len));
        Ok(Self { engine, sizes, watch: Watch::start()?, batches })
    }

    pub(crate) fn image_bytes(&self) -> usize {
        self.engine.geometry().image_bytes
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.watch.end();
    }
}

//! What every exported function runs inside: panics and failures become statuses, their text is
//! kept for the caller's thread.
//!
//! Invariant: nothing unwinds out of here, and keeping a text allocates nothing.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char};
use std::fmt::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::status::{Failed, Outcome, Status};

/// Bytes of a text at most, its closing zero among them.
const TEXT_BYTES: usize = 1024;

/// A text for C in a place of fixed size; what does not fit is cut off.
pub(crate) struct Text {
    /// All zero from `len` on.
    bytes: [u8; TEXT_BYTES],
    len: usize,
}

impl Text {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; TEXT_BYTES], len: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes[..self.len].fill(0);
        self.len = 0;
    }

    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).expect("a text ends with a zero")
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let len = text.floor_char_boundary(TEXT_BYTES - 1 - self.len);
        self.bytes[self.len..self.len + len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;
        Ok(())
    }
}

thread_local! {
    static LAST_ERROR: RefCell<Text> = const { RefCell::new(Text::new()) };
    static IS_IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// The text of the last failure on this thread; it stays where it is as long as the thread lives.
pub(crate) fn last_error() -> *const c_char {
    LAST_ERROR.with_borrow(|text| text.as_c_str().as_ptr())
}

/// Runs a call for C.
pub(crate) fn panic_boundary(call: impl FnOnce() -> Outcome<()>) -> i32 {
    let failed = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => return Status::Ok as i32,
        Ok(Err(failed)) => failed,
        Err(panic) => {
            let text = format!("a panic inside Twinstream: {}", twinstream::panic_text(&*panic));
            Failed::new(Status::Panic, text)
        }
    };
    LAST_ERROR.with_borrow_mut(|text| {
        text.clear();
        // Never fails.
        let _ = text.write_str(&failed.text);
    });
    failed.status as i32
}

/// Runs a callback of the caller.
pub(crate) fn in_callback(callback: impl FnOnce()) {
    let before = IS_IN_CALLBACK.replace(true);
    callback();
    IS_IN_CALLBACK.set(before);
}

/// Refuses what would block in a callback.
pub(crate) fn check_may_block() -> Outcome<()> {
    match IS_IN_CALLBACK.get() {
        true => Err(Failed::new(Status::InCallback, "this call blocks; callbacks must not")),
        false => Ok(()),
    }
}

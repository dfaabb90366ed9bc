//! Runs code of others (handlers, wakers, loggers, destructors) on the scheduling thread.
//!
//! Invariant: none of its panics gets out, nor one of what it panics with.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::panic_text;

/// How often what is thrown may throw in its turn and still be dropped.
const TURN_LEN: usize = 4;

/// What `code` returns, or the text of its panic.
pub(super) fn contain<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|panic| {
        let text = format!("panic: {}", panic_text(&*panic));
        // What was thrown may throw in its turn as it is dropped; what still does after some turns
        // is let be.
        let mut thrown = Some(panic);
        for _ in 0..TURN_LEN {
            let panic = thrown.take();
            thrown = catch_unwind(AssertUnwindSafe(|| drop(panic))).err();
        }
        std::mem::forget(thrown);
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Throws another as it is dropped, so many times.
    struct Bomb(usize);

    impl Drop for Bomb {
        fn drop(&mut self) {
            if self.0 > 0 {
                std::panic::panic_any(Self(self.0 - 1));
            }
        }
    }

    #[test]
    fn no_panic_gets_out() {
        assert_eq!(contain(|| 7), Ok(7));
        assert_eq!(contain(|| panic!("{} times", 2)), Err::<(), _>("panic: 2 times".to_owned()));
        for turn_len in [1, TURN_LEN, 2 * TURN_LEN] {
            let told = contain(|| std::panic::panic_any(Bomb(turn_len)));
            assert_eq!(told, Err::<(), _>("panic: of unknown kind".to_owned()));
        }
    }
}

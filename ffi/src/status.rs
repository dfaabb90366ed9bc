//! Statuses of the C interface and what becomes one.
//!
//! Invariant: values and names are those of the header (a test reads it). A value is never given
//! another meaning.

use std::borrow::Cow;
use std::ffi::CStr;

use twinstream::Error;
use twinstream::engine::{Failure, Refused};

macro_rules! statuses {
    ($($variant:ident = $value:literal $name:literal,)*) => {
        /// See the header.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(i32)]
        pub(crate) enum Status {
            $($variant = $value,)*
        }

        impl Status {
            /// Every status with its name in C.
            pub(crate) const ALL: &'static [(Self, &'static CStr)] =
                &[$((Self::$variant, $name),)*];
        }
    };
}

statuses! {
    Ok = 0 c"TWINSTREAM_OK",
    Full = 1 c"TWINSTREAM_FULL",
    Pending = 2 c"TWINSTREAM_PENDING",
    Timeout = 3 c"TWINSTREAM_TIMEOUT",
    Empty = 4 c"TWINSTREAM_EMPTY",
    Rejected = 10 c"TWINSTREAM_REJECTED",
    Expired = 11 c"TWINSTREAM_EXPIRED",
    Cancelled = 12 c"TWINSTREAM_CANCELLED",
    Failed = 13 c"TWINSTREAM_FAILED",
    DeviceLost = 20 c"TWINSTREAM_DEVICE_LOST",
    ShutDown = 21 c"TWINSTREAM_SHUT_DOWN",
    Null = 30 c"TWINSTREAM_NULL",
    StructSize = 31 c"TWINSTREAM_STRUCT_SIZE",
    Abi = 32 c"TWINSTREAM_ABI",
    Argument = 33 c"TWINSTREAM_ARGUMENT",
    ImageSize = 34 c"TWINSTREAM_IMAGE_SIZE",
    Stale = 35 c"TWINSTREAM_STALE",
    State = 36 c"TWINSTREAM_STATE",
    InCallback = 37 c"TWINSTREAM_IN_CALLBACK",
    Io = 50 c"TWINSTREAM_IO",
    Weights = 51 c"TWINSTREAM_WEIGHTS",
    Config = 52 c"TWINSTREAM_CONFIG",
    Memory = 53 c"TWINSTREAM_MEMORY",
    Device = 54 c"TWINSTREAM_DEVICE",
    Unsupported = 55 c"TWINSTREAM_UNSUPPORTED",
    Panic = 90 c"TWINSTREAM_PANIC",
}

impl Status {
    /// The name of a value, which may be none of ours.
    pub(crate) fn name(value: i32) -> &'static CStr {
        let named = Self::ALL.iter().find(|(status, _)| *status as i32 == value);
        named.map_or(c"unknown status", |(_, name)| name)
    }
}

/// Why a call does not return [`Status::Ok`].
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) status: Status,
    /// For people. Static on the request path, where nothing may be allocated.
    pub(crate) text: Cow<'static, str>,
}

/// What a call comes to.
pub(crate) type Outcome<T> = Result<T, Failed>;

impl Failed {
    pub(crate) fn new(status: Status, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, text: text.into() }
    }
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::new(Status::Full, "every slot is in use"),
            Refused::Size => Self::new(Status::ImageSize, "the image has the wrong size"),
            Refused::Len => {
                Self::new(Status::Argument, "one request has from 1 to slot_len images")
            }
            Refused::ShutDown => Self::new(Status::ShutDown, "the engine was shut down"),
            Refused::DeviceLost => Self::new(Status::DeviceLost, "the device is lost"),
            Refused::Forked => Self::new(
                Status::State,
                "another process made the engine: create engines after forking",
            ),
            // None yet; each gets a status with its name.
            other => Self::new(Status::State, other.to_string()),
        }
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Rejected => Self::new(Status::Rejected, "the deadline cannot be met"),
            Failure::Expired => Self::new(Status::Expired, "the deadline passed"),
            Failure::Cancelled => Self::new(Status::Cancelled, "the request was cancelled"),
            Failure::Failed => Self::new(Status::Failed, "the device failed"),
            Failure::DeviceLost => Self::new(Status::DeviceLost, "the device is lost"),
            Failure::ShutDown => Self::new(Status::ShutDown, "the engine was shut down"),
            // None yet; each gets a status with its name.
            other => Self::new(Status::Failed, other.to_string()),
        }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let kinds = [
            (error.is_io(), Status::Io),
            (error.is_weights(), Status::Weights),
            (error.is_config(), Status::Config),
            (error.is_memory(), Status::Memory),
            (error.is_device(), Status::Device),
        ];
        let kind = kinds.into_iter().find(|(is_it, _)| *is_it);
        Self::new(kind.map_or(Status::Argument, |(_, status)| status), error.to_string())
    }
}

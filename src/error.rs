//! The library's one error type: what failed, named by culprit and remedy.

use std::any::Any;
use std::fmt;

/// What kind of thing was at fault; asked through the predicates of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Argument,
    Io,
    Image,
    Weights,
    Config,
    Memory,
    Device,
}

/// Why a call failed.
///
/// The message names the culprit (file, tensor, argument), what was expected and what was found.
/// Callers that act on the kind of failure ask the predicates; the set of kinds may grow.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Names the file that the failure lies in.
    pub(crate) fn in_file(self, path: &std::path::Path) -> Self {
        self.within(&format!("{}: ", path.display()))
    }

    /// Says first where the failure lies.
    pub(crate) fn within(mut self, place: &str) -> Self {
        self.message.insert_str(0, place);
        self
    }

    /// An argument of the call was out of range or of the wrong size.
    pub fn is_argument(&self) -> bool {
        self.kind == Kind::Argument
    }

    /// A file could not be opened, mapped or read.
    pub fn is_io(&self) -> bool {
        self.kind == Kind::Io
    }

    /// An image could not be decoded, or has a size that the model cannot take.
    pub fn is_image(&self) -> bool {
        self.kind == Kind::Image
    }

    /// The weights file is malformed, or its tensors do not fit the network.
    pub fn is_weights(&self) -> bool {
        self.kind == Kind::Weights
    }

    /// The device failed or is lost.
    pub fn is_device(&self) -> bool {
        self.kind == Kind::Device
    }

    /// The model's `config.json` is malformed or contradicts the weights.
    pub fn is_config(&self) -> bool {
        self.kind == Kind::Config
    }

    /// The system gave no memory of the kind that was asked for.
    pub fn is_memory(&self) -> bool {
        self.kind == Kind::Memory
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

/// What a panic says of itself, where it was caught.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("of unknown kind")
}

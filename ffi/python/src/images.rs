//! What a caller may give as an image, and how it becomes the network's input.
//!
//! Invariant: files, Pillow's images and arrays of any size go through the library's own resizer
//! and crop, as `twinstream classify` has it; an array of the network's size is copied as it is
//! where the crop would change nothing. What is not an image is refused with what it is.

use std::path::PathBuf;
use std::thread;

use pyo3::buffer::{PyBuffer, PyUntypedBuffer};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use twinstream::Error;
use twinstream::image::{self, Rgb8};

use crate::errors;
use crate::opening::Info;

const EXPECTED: &str = "a uint8 array of shape (height, width, 3), a path, the bytes of an image \
                        file, or an image of Pillow";

/// The network's input: u8 RGB pixels of shape (height, width, 3), which go to an engine of that
/// size as they are. `Engine.prepare` makes them of an image.
#[pyclass(frozen, module = "twinstream")]
pub(crate) struct Pixels {
    bytes: Py<PyBytes>,
    height: usize,
    width: usize,
}

/// An image, as far as it is known without work.
pub(crate) enum Image<'py> {
    /// Of the network's size.
    Ready(PyBuffer<u8>),
    /// Prepared before.
    Prepared(Bound<'py, Pixels>),
    Raw(Raw),
}

/// What must be decoded or resized first.
pub(crate) enum Raw {
    File(PathBuf),
    Encoded(Vec<u8>),
    Pixels(Rgb8),
}

/// How an image is called in messages: alone or as one of several.
pub(crate) fn name(place: Option<usize>) -> String {
    place.map_or_else(|| "image".to_owned(), |index| format!("images[{index}]"))
}

/// Whether a caller's argument is one image, where it could be several.
pub(crate) fn is_one(argument: &Bound<'_, PyAny>) -> bool {
    if argument.is_instance_of::<PyString>() || argument.is_instance_of::<Pixels>() {
        return true;
    }
    match PyUntypedBuffer::get(argument) {
        // Four axes are several images, one a row.
        Ok(buffer) => buffer.dimensions() != 4,
        Err(_) => is_path(argument) || is_pillow(argument),
    }
}

fn has(object: &Bound<'_, PyAny>, names: &[&str]) -> bool {
    names.iter().all(|name| object.hasattr(*name).unwrap_or(false))
}

fn is_path(object: &Bound<'_, PyAny>) -> bool {
    has(object, &["__fspath__"])
}

/// By what it can do, so that Pillow need not be there.
fn is_pillow(object: &Bound<'_, PyAny>) -> bool {
    has(object, &["convert", "size", "tobytes"])
}

/// The buffer of a u8 array of shape (height, width, 3), with its height and width.
fn typed(
    object: &Bound<'_, PyAny>,
    buffer: PyUntypedBuffer,
    place: Option<usize>,
) -> PyResult<(PyBuffer<u8>, usize, usize)> {
    if buffer.as_typed::<u8>().is_err() {
        let dtype = match object.getattr_opt("dtype")? {
            Some(dtype) => dtype.to_string(),
            None => format!("format {:?}", buffer.format()),
        };
        let text = format!("{}: expected an array of dtype uint8, got {dtype}", name(place));
        return Err(PyTypeError::new_err(text));
    }
    let (height, width) = match *buffer.shape() {
        [height, width, 3] => (height, width),
        _ => {
            let got = PyTuple::new(object.py(), buffer.shape())?.repr()?;
            return Err(errors::value(&name(place), "shape (height, width, 3)", got));
        }
    };
    Ok((buffer.into_typed()?, height, width))
}

#[pymethods]
impl Pixels {
    #[new]
    fn of_array(py: Python<'_>, array: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyUntypedBuffer::get(array)?;
        let (buffer, height, width) = typed(array, buffer, None)?;
        Ok(Self::new(py, &buffer.to_vec(py)?, (height, width)))
    }

    /// A read-only numpy array of uint8.
    #[getter]
    fn array<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let bytes = py.import("numpy")?.call_method1("frombuffer", (&self.bytes, "u1"))?;
        bytes.call_method1("reshape", ((self.height, self.width, 3),))
    }
}

impl Pixels {
    fn new(py: Python<'_>, pixels: &[u8], (height, width): (usize, usize)) -> Self {
        Self { bytes: PyBytes::new(py, pixels).unbind(), height, width }
    }
}

impl<'py> Image<'py> {
    pub(crate) fn of(
        object: &Bound<'py, PyAny>,
        place: Option<usize>,
        info: &Info,
    ) -> PyResult<Self> {
        if let Ok(pixels) = object.cast::<Pixels>() {
            return Self::of_prepared(pixels.clone(), place, info);
        }
        if object.is_instance_of::<PyString>() {
            return Ok(Self::Raw(Raw::File(object.extract()?)));
        }
        if let Ok(encoded) = object.cast::<PyBytes>() {
            return Ok(Self::Raw(Raw::Encoded(encoded.as_bytes().to_vec())));
        }
        if let Ok(buffer) = PyUntypedBuffer::get(object) {
            return Self::of_array(object, buffer, place, info);
        }
        if is_path(object) {
            return Ok(Self::Raw(Raw::File(object.extract()?)));
        }
        if is_pillow(object) {
            let rgb = object.call_method1("convert", ("RGB",))?;
            let (width, height): (usize, usize) = rgb.getattr("size")?.extract()?;
            let pixels: Vec<u8> = rgb.call_method0("tobytes")?.extract()?;
            return Self::of_pixels((height, width), pixels, place);
        }
        let text =
            format!("{}: expected {EXPECTED}, got {}", name(place), object.get_type().name()?);
        Err(PyTypeError::new_err(text))
    }

    fn of_array(
        object: &Bound<'py, PyAny>,
        buffer: PyUntypedBuffer,
        place: Option<usize>,
        info: &Info,
    ) -> PyResult<Self> {
        let (buffer, height, width) = typed(object, buffer, place)?;
        if info.passes(height, width) {
            return Ok(Self::Ready(buffer));
        }
        Self::of_pixels((height, width), buffer.to_vec(object.py())?, place)
    }

    fn of_prepared(
        pixels: Bound<'py, Pixels>,
        place: Option<usize>,
        info: &Info,
    ) -> PyResult<Self> {
        let Pixels { height, width, .. } = *pixels.get();
        if (height, width) == info.size() {
            return Ok(Self::Prepared(pixels));
        }
        let text = |(height, width)| format!("pixels of shape ({height}, {width}, 3)");
        Err(errors::value(&name(place), &text(info.size()), text((height, width))))
    }

    fn of_pixels(
        (height, width): (usize, usize),
        pixels: Vec<u8>,
        place: Option<usize>,
    ) -> PyResult<Self> {
        match Rgb8::new(width, height, pixels) {
            Ok(pixels) => Ok(Self::Raw(Raw::Pixels(pixels))),
            Err(error) => Err(errors::of_image(&name(place), &error)),
        }
    }

    /// Copies the input to its place. It must not be raw any more.
    pub(crate) fn copy_to(&self, py: Python<'py>, place: &mut [u8]) -> PyResult<()> {
        match self {
            Self::Ready(buffer) => buffer.copy_to_slice(py, place),
            Self::Prepared(pixels) => {
                place.copy_from_slice(pixels.get().bytes.as_bytes(py));
                Ok(())
            }
            Self::Raw(_) => unreachable!("raw images are prepared first"),
        }
    }

    /// Decodes and resizes what needs it, with the interpreter let go.
    pub(crate) fn prepare(self, py: Python<'py>, info: &Info) -> PyResult<Self> {
        prepare_all(py, vec![self], None, info).map(|mut images| images.remove(0))
    }

    /// The input as an object of its own, for another thread to hand in.
    pub(crate) fn into_pixels(self, py: Python<'py>, info: &Info) -> PyResult<Bound<'py, Pixels>> {
        match self.prepare(py, info)? {
            Self::Prepared(pixels) => Ok(pixels),
            Self::Ready(buffer) => {
                Bound::new(py, Pixels::new(py, &buffer.to_vec(py)?, info.size()))
            }
            Self::Raw(_) => unreachable!("raw images are prepared first"),
        }
    }
}

impl Raw {
    fn prepare(&self, info: &Info) -> Result<Vec<u8>, Error> {
        let prepare = |image| info.preprocess.apply(image).map(Rgb8::into_pixels);
        match self {
            Self::File(path) => prepare(&image::decode_file(path)?),
            Self::Encoded(bytes) => prepare(&image::decode(bytes)?),
            Self::Pixels(image) => prepare(image),
        }
    }

    /// Whose culprit the library cannot name.
    fn is_nameless(&self) -> bool {
        !matches!(self, Self::File(_))
    }
}

impl Info {
    /// Whether an image of this size is the network's input as it is.
    fn passes(&self, height: usize, width: usize) -> bool {
        (height, width) == self.size() && self.preprocess.crop_pct == 1.0
    }

    /// Height and width of the network's input.
    fn size(&self) -> (usize, usize) {
        (self.preprocess.height, self.preprocess.width)
    }
}

/// Decodes and resizes all that need it, with the interpreter let go. Messages count the images
/// from `first`; none: there is one.
pub(crate) fn prepare_all<'py>(
    py: Python<'py>,
    images: Vec<Image<'py>>,
    first: Option<usize>,
    info: &Info,
) -> PyResult<Vec<Image<'py>>> {
    let mut raws: Vec<(usize, &Raw)> = Vec::new();
    for (index, image) in images.iter().enumerate() {
        if let Image::Raw(raw) = image {
            raws.push((index, raw));
        }
    }
    if raws.is_empty() {
        return Ok(images);
    }
    let prepared = py.detach(|| prepare_raws(&raws, info));
    let mut pixels = Vec::with_capacity(raws.len());
    for ((index, raw), outcome) in raws.into_iter().zip(prepared) {
        let place = first.map(|first| first + index);
        let named = |error: Error| match raw.is_nameless() {
            true => errors::of_image(&name(place), &error),
            false => errors::library(&error),
        };
        pixels.push(Bound::new(py, Pixels::new(py, &outcome.map_err(named)?, info.size()))?);
    }
    let mut pixels = pixels.into_iter();
    let ready = |image| match image {
        Image::Raw(_) => Image::Prepared(pixels.next().expect("one for each")),
        ready => ready,
    };
    Ok(images.into_iter().map(ready).collect())
}

/// By several threads, in order.
fn prepare_raws(raws: &[(usize, &Raw)], info: &Info) -> Vec<Result<Vec<u8>, Error>> {
    let prepare = |raws: &[(usize, &Raw)]| -> Vec<_> {
        raws.iter().map(|(_, raw)| raw.prepare(info)).collect()
    };
    let chunk_len = raws.len().div_ceil(info.decoder_len);
    if chunk_len == raws.len() {
        return prepare(raws);
    }
    thread::scope(|scope| {
        let chunks: Vec<_> =
            raws.chunks(chunk_len).map(|raws| scope.spawn(move || prepare(raws))).collect();
        chunks.into_iter().flat_map(|chunk| chunk.join().expect("no panic in there")).collect()
    })
}

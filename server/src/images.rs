//! The images of a request as a protocol carries them: pixels, or files that are to be decoded.
//!
//! Invariant: what comes out of here has from 1 to as many images as one request may have, and
//! pixels are as many as its shape says. Knows nothing of engines.

use bytes::{Buf, Bytes};

use crate::problem::Problem;

/// The one input.
pub const INPUT: &str = "image";
/// Colours of a pixel.
const CHANNEL_LEN: usize = 3;
/// Of a wrong type and shape, so much is shown.
const SHOWN_CHARS: usize = 20;
const SHOWN_DIMS: usize = 8;
/// The length that stands before each value of type BYTES.
const LENGTH_BYTES: usize = size_of::<u32>();

/// What a request asks to be classified.
#[derive(Clone, Debug, PartialEq)]
pub enum Images {
    /// u8 RGB, n x height x width x 3.
    Pixels { bytes: Bytes, len: usize },
    /// JPEG, PNG, WebP or BMP, a file each.
    Files(Vec<Bytes>),
}

/// What images must be like.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub height: usize,
    pub width: usize,
    /// Most images of a request.
    pub len_max: usize,
}

/// What a tensor says of itself.
pub struct Tensor<'a> {
    pub name: &'a str,
    pub datatype: &'a str,
    pub shape: &'a [i64],
}

/// A tensor's values, in one of the forms that protocols have.
pub enum Values {
    /// As they lie in memory; of BYTES, each behind its length.
    Raw(Bytes),
    /// One byte each.
    Pixels(Bytes),
    /// One file each.
    Files(Vec<Bytes>),
}

impl Limits {
    fn image_bytes(self) -> usize {
        self.height * self.width * CHANNEL_LEN
    }

    /// The images of the one input.
    pub fn images(self, tensor: &Tensor<'_>, values: Values) -> Result<Images, Problem> {
        let Tensor { name, datatype, shape } = *tensor;
        if name != INPUT {
            return Err(Problem::argument(format!("no input `{name}`: there is `{INPUT}`")));
        }
        let len = match (datatype, shape) {
            ("UINT8", [len, height, width, channels])
                if [*height, *width, *channels]
                    == [self.height as i64, self.width as i64, CHANNEL_LEN as i64] =>
            {
                *len
            }
            ("BYTES", [len] | [len, 1]) => *len,
            _ => return Err(self.wrong_type(datatype, shape)),
        };
        let len = match usize::try_from(len) {
            Ok(len) if (1..=self.len_max).contains(&len) => len,
            _ => {
                return Err(Problem::argument(format!(
                    "`{INPUT}` has {len} images: a request has from 1 to {}",
                    self.len_max
                )));
            }
        };
        match (datatype, values) {
            ("UINT8", Values::Raw(bytes) | Values::Pixels(bytes)) => self.pixels(bytes, len),
            ("BYTES", Values::Raw(bytes)) => files(split(bytes, len)?, len),
            ("BYTES", Values::Files(found)) => files(found, len),
            ("UINT8", Values::Files(_)) => Err(Problem::argument(format!(
                "`{INPUT}` is UINT8, and its data are texts: numbers are wanted"
            ))),
            (_, _) => Err(Problem::argument(format!(
                "`{INPUT}` is BYTES, and its data are numbers: image files are wanted"
            ))),
        }
    }

    fn pixels(self, bytes: Bytes, len: usize) -> Result<Images, Problem> {
        let wanted_bytes = len * self.image_bytes();
        if bytes.len() == wanted_bytes {
            return Ok(Images::Pixels { bytes, len });
        }
        let found_bytes = bytes.len();
        Err(Problem::argument(format!(
            "`{INPUT}` has {found_bytes} values: by its shape it has {wanted_bytes}"
        )))
    }

    fn wrong_type(self, datatype: &str, shape: &[i64]) -> Problem {
        let Self { height, width, .. } = self;
        let shape = &shape[..shape.len().min(SHOWN_DIMS)];
        let datatype: String = datatype.chars().take(SHOWN_CHARS).collect();
        Problem::argument(format!(
            "`{INPUT}` is {datatype} {shape:?}: send UINT8 [n, {height}, {width}, {CHANNEL_LEN}], \
             or BYTES [n] with an image file each"
        ))
    }
}

fn files(found: Vec<Bytes>, len: usize) -> Result<Images, Problem> {
    if found.len() == len {
        return Ok(Images::Files(found));
    }
    let found = match found.len() {
        more if more > len => "more".to_owned(),
        less => less.to_string(),
    };
    Err(Problem::argument(format!("`{INPUT}` has {found} image files: by its shape it has {len}")))
}

/// The values of type BYTES in raw contents, up to one above so many.
fn split(mut bytes: Bytes, len_max: usize) -> Result<Vec<Bytes>, Problem> {
    let mut values = Vec::new();
    while !bytes.is_empty() && values.len() <= len_max {
        let has_length = bytes.len() >= LENGTH_BYTES;
        let len = if has_length { bytes.get_u32_le() as usize } else { usize::MAX };
        if len > bytes.len() {
            return Err(Problem::argument(format!(
                "`{INPUT}`: value {} of type BYTES is cut off: each stands behind its length in \
                 {LENGTH_BYTES} bytes, little-endian",
                values.len()
            )));
        }
        values.push(bytes.split_to(len));
    }
    Ok(values)
}

/// Texts as raw contents of type BYTES.
pub fn join(texts: &[String]) -> Bytes {
    let mut bytes = Vec::new();
    for text in texts {
        bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { height: 2, width: 1, len_max: 3 };

    fn images(datatype: &str, shape: &[i64], values: Values) -> Result<Images, String> {
        let tensor = Tensor { name: INPUT, datatype, shape };
        LIMITS.images(&tensor, values).map_err(|problem| problem.text)
    }

    fn raw(bytes: &[u8]) -> Values {
        Values::Raw(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn pixels_are_as_many_as_their_shape_says() {
        let found = images("UINT8", &[1, 2, 1, 3], raw(&[1, 2, 3, 4, 5, 6])).unwrap();
        assert_eq!(found, Images::Pixels { bytes: vec![1, 2, 3, 4, 5, 6].into(), len: 1 });
        let error = images("UINT8", &[2, 2, 1, 3], raw(&[0; 11])).unwrap_err();
        assert_eq!(error, "`image` has 11 values: by its shape it has 12");
    }

    #[test]
    fn other_shapes_and_types_are_refused_with_those_that_are_taken() {
        for (datatype, shape) in
            [("UINT8", &[1, 3, 2, 1][..]), ("FP32", &[1, 2, 1, 3]), ("UINT8", &[2, 1, 3])]
        {
            let error = images(datatype, shape, raw(&[0; 6])).unwrap_err();
            assert!(error.contains("send UINT8 [n, 2, 1, 3], or BYTES [n]"), "{error}");
        }
        for len in [0, -1, 4, i64::MAX] {
            let error = images("UINT8", &[len, 2, 1, 3], raw(&[0; 6])).unwrap_err();
            assert!(error.ends_with("a request has from 1 to 3"), "{error}");
        }
    }

    #[test]
    fn files_stand_behind_their_lengths() {
        let found = images("BYTES", &[2], raw(b"\x02\0\0\0ab\0\0\0\0")).unwrap();
        assert_eq!(found, Images::Files(vec!["ab".into(), "".into()]));
        for cut in [&b"\x02\0\0\0a"[..], b"\x02\0\0", b"\xff\xff\xff\xffabc"] {
            let error = images("BYTES", &[1], raw(cut)).unwrap_err();
            assert!(error.contains("value 0 of type BYTES is cut off"), "{error}");
        }
        let error = images("BYTES", &[1], raw(b"\x01\0\0\0a\x01\0\0\0b")).unwrap_err();
        assert_eq!(error, "`image` has more image files: by its shape it has 1");
    }

    #[test]
    fn joined_texts_are_split_again() {
        let texts = ["0.5:3:cat".to_owned(), String::new()];
        assert_eq!(split(join(&texts), 2).unwrap(), ["0.5:3:cat", ""]);
        // What follows is not looked at.
        assert_eq!(split(join(&vec![String::new(); 9]), 2).unwrap().len(), 3);
    }
}

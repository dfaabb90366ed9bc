//! Messages of inferences out of their bytes, unless these would take many times their room.
//!
//! Invariant: a message has few of the fields that take more memory than bytes. Knows the numbers
//! of the protocol's fields, not what is in them.

use std::marker::PhantomData;

use bytes::Buf;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstEncoder};

use crate::problem::Problem;

/// Most fields of a message and of those in it: what one takes is 200 bytes at most.
pub const FIELD_LEN_MAX: usize = 16_384;

/// Messages whose fields are counted.
#[derive(Clone, Copy)]
enum Kind {
    Request,
    Input,
    Contents,
    Output,
}

/// As `ProstCodec`, for messages of clients that are not trusted.
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

/// See [`BoundedCodec`].
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + Send + 'static, U: Message + Default + Send + 'static> Codec
    for BoundedCodec<T, U>
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> BoundedDecoder<U> {
        BoundedDecoder(PhantomData)
    }
}

impl<U: Message + Default + Send + 'static> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = bytes.copy_to_bytes(bytes.remaining());
        check(&bytes)?;
        let decoded = U::decode(bytes);
        decoded.map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
    }
}

/// Refuses a request of too many fields.
pub fn check(request: &[u8]) -> Result<(), Problem> {
    let mut left_len = FIELD_LEN_MAX;
    match count(Kind::Request, request, &mut left_len) {
        Some(()) => Ok(()),
        None => Err(Problem::argument(format!(
            "the message has above {FIELD_LEN_MAX} fields: send pixels side by side in \
             raw_input_contents"
        ))),
    }
}

/// Takes the fields off `left_len`; none if it has too few. What cannot be read ends it, as it ends
/// the decoder.
fn count(kind: Kind, mut bytes: &[u8], left_len: &mut usize) -> Option<()> {
    while bytes.has_remaining() {
        let Ok((field, wire_type)) = decode_key(&mut bytes) else { return Some(()) };
        let is_pixel = matches!((kind, field), (Kind::Contents, 4));
        if !is_pixel {
            *left_len = left_len.checked_sub(1)?;
        }
        let skipped_bytes = match wire_type {
            WireType::Varint => decode_varint(&mut bytes).map(|_| 0),
            WireType::SixtyFourBit => Ok(8),
            WireType::ThirtyTwoBit => Ok(4),
            WireType::LengthDelimited => decode_varint(&mut bytes),
            // Their fields are counted as if they were not in a group.
            WireType::StartGroup | WireType::EndGroup => Ok(0),
        };
        let Ok(skipped_bytes) = skipped_bytes else { return Some(()) };
        let Some((inner, rest)) = bytes.split_at_checked(skipped_bytes as usize) else {
            return Some(());
        };
        bytes = rest;
        match (kind, field) {
            (Kind::Request, 5) => count(Kind::Input, inner, left_len)?,
            (Kind::Request, 6) => count(Kind::Output, inner, left_len)?,
            (Kind::Input, 5) => count(Kind::Contents, inner, left_len)?,
            // Dimensions, packed.
            (Kind::Input, 3) => *left_len = left_len.checked_sub(inner.len())?,
            _ => {}
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use prost::encoding::{encode_key, encode_varint};

    use super::*;
    use crate::protocol::{
        InferInputTensor, InferRequestedOutputTensor, InferTensorContents, ModelInferRequest,
        Parameters,
    };

    fn is_taken(request: &ModelInferRequest) -> bool {
        check(&request.encode_to_vec()).is_ok()
    }

    fn with(input: InferInputTensor) -> ModelInferRequest {
        ModelInferRequest { inputs: vec![input], ..Default::default() }
    }

    #[test]
    fn what_takes_many_times_its_bytes_is_refused() {
        let files = |len| InferTensorContents {
            bytes_contents: vec![Default::default(); len],
            ..Default::default()
        };
        let contents =
            |len| with(InferInputTensor { contents: Some(files(len)), ..Default::default() });
        let dims = |len| with(InferInputTensor { shape: vec![0; len], ..Default::default() });
        let parameters = |len: usize| -> Parameters {
            (0..len).map(|index| (index.to_string(), Default::default())).collect()
        };
        type Case<'a> = &'a dyn Fn(usize) -> ModelInferRequest;
        let cases: [Case<'_>; 7] = [
            &|len| ModelInferRequest { parameters: parameters(len), ..Default::default() },
            &|len| with(InferInputTensor { parameters: parameters(len), ..Default::default() }),
            &|len| ModelInferRequest {
                outputs: vec![InferRequestedOutputTensor {
                    parameters: parameters(len),
                    ..Default::default()
                }],
                ..Default::default()
            },
            &|len| ModelInferRequest {
                inputs: vec![Default::default(); len],
                ..Default::default()
            },
            &|len| ModelInferRequest {
                raw_input_contents: vec![Default::default(); len],
                ..Default::default()
            },
            &contents,
            &dims,
        ];
        for case in cases {
            assert!(is_taken(&case(FIELD_LEN_MAX - 9)));
            assert!(!is_taken(&case(FIELD_LEN_MAX + 1)));
        }
        // In many inputs too.
        let mut spread = contents(100);
        spread.inputs = vec![spread.inputs[0].clone(); 200];
        assert!(!is_taken(&spread));
    }

    #[test]
    fn pixels_and_raw_bytes_may_be_many() {
        let pixels =
            InferTensorContents { uint_contents: vec![255; 200_000], ..Default::default() };
        let mut request = with(InferInputTensor { contents: Some(pixels), ..Default::default() });
        request.raw_input_contents = vec![vec![0; 200_000].into()];
        assert!(is_taken(&request));
        // Each behind its own key, as writers may do it.
        let inside = |field: u32, bytes: Vec<u8>| {
            let mut message = Vec::new();
            encode_key(field, WireType::LengthDelimited, &mut message);
            encode_varint(bytes.len() as u64, &mut message);
            [message, bytes].concat()
        };
        let pixels = [0x20, 0x01].repeat(2 * FIELD_LEN_MAX);
        let request = inside(5, inside(5, pixels));
        let read = ModelInferRequest::decode(&*request).unwrap();
        let contents = read.inputs[0].contents.as_ref().unwrap();
        assert_eq!(contents.uint_contents.len(), 2 * FIELD_LEN_MAX);
        assert!(check(&request).is_ok());
    }

    #[test]
    fn what_cannot_be_read_is_left_to_the_decoder() {
        for bytes in [&[0xff; 20][..], &[0x2a, 0x7f], &[0x2a], &[0x07]] {
            assert!(check(bytes).is_ok());
            assert!(ModelInferRequest::decode(bytes).is_err());
        }
    }
}

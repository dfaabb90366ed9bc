//! The protocol's JSON, and the binary extension's bytes behind it.
//!
//! Invariant: a request is read in one pass over its text; what it says beyond the protocol is
//! skipped. Knows nothing of addresses and headers.

use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::images::{INPUT, Images, Limits, Tensor, Values};
use crate::parameters::whole;
use crate::problem::Problem;
use crate::protocol::{InferParameter, Parameter, Parameters};
use crate::shared_memory::{Place, Regions};

/// Most inputs, outputs, dimensions and parameters that are read.
const FEW_LEN: usize = 16;
/// Most image files that are read, above what any request may have.
const TEXT_LEN_MAX: usize = 4096;

/// The body of an inference request, or its JSON part.
#[derive(Deserialize)]
pub struct InferRequest {
    #[serde(default)]
    pub id: String,
    #[serde(default, deserialize_with = "parameters")]
    pub parameters: Parameters,
    #[serde(deserialize_with = "few_objects")]
    pub inputs: Vec<Input>,
    #[serde(default, deserialize_with = "few_objects")]
    pub outputs: Vec<Output>,
}

/// An input of an [`InferRequest`].
#[derive(Deserialize)]
pub struct Input {
    name: String,
    datatype: String,
    #[serde(deserialize_with = "few")]
    shape: Vec<i64>,
    #[serde(default, deserialize_with = "parameters")]
    parameters: Parameters,
    data: Option<Data>,
}

/// An output that is asked for.
#[derive(Deserialize)]
pub struct Output {
    pub name: String,
    #[serde(default, deserialize_with = "parameters")]
    pub parameters: Parameters,
}

/// Values in JSON, nested or not.
#[derive(Default)]
struct Data {
    pixels: Vec<u8>,
    texts: Vec<String>,
}

impl InferRequest {
    /// Reads a body whose JSON ends at `json_bytes`; none: all of it is JSON.
    pub fn read(body: &Bytes, json_bytes: Option<usize>) -> Result<(Self, Bytes), Problem> {
        let split = json_bytes.unwrap_or(body.len());
        if split > body.len() {
            let text = format!(
                "Inference-Header-Content-Length is {split}, and the body has {} bytes",
                body.len()
            );
            return Err(Problem::argument(text));
        }
        Ok((from_object(&body[..split])?, body.slice(split..)))
    }

    /// The images; `binary` is what followed the JSON.
    pub fn images(
        inputs: Vec<Input>,
        (limits, regions): (Limits, &Regions),
        binary: Bytes,
    ) -> Result<Images, Problem> {
        let [input] = <[_; 1]>::try_from(inputs).map_err(|inputs: Vec<Input>| {
            Problem::argument(format!("{} inputs: there is one, `{INPUT}`", inputs.len()))
        })?;
        let Input { name, datatype, shape, parameters, data } = input;
        let tensor = Tensor { name: &name, datatype: &datatype, shape: &shape };
        if let Some(place) = Place::of(&parameters)? {
            return limits.images(&tensor, Values::Raw(regions.read(&place)?));
        }
        let values = match (whole(&parameters, "binary_data_size")?, data) {
            (None, Some(data)) if binary.is_empty() => data.values()?,
            (Some(size_bytes), None) if size_bytes == binary.len() as u64 => Values::Raw(binary),
            (Some(size_bytes), None) => {
                return Err(Problem::argument(format!(
                    "`{INPUT}` has {size_bytes} as binary_data_size, and {} bytes follow the JSON",
                    binary.len()
                )));
            }
            (None, Some(_)) => {
                return Err(Problem::argument(format!(
                    "{} bytes follow the JSON, and `{INPUT}` has no binary_data_size",
                    binary.len()
                )));
            }
            (None, None) | (Some(_), Some(_)) => {
                return Err(Problem::argument(format!(
                    "`{INPUT}` has its values once: as `data`, behind the JSON with a \
                     binary_data_size, or in shared memory"
                )));
            }
        };
        limits.images(&tensor, values)
    }
}

impl Data {
    /// Texts are files in base64, as JSON holds no bytes.
    fn values(self) -> Result<Values, Problem> {
        if self.texts.is_empty() {
            return Ok(Values::Pixels(self.pixels.into()));
        }
        if !self.pixels.is_empty() {
            return Err(Problem::argument(format!("`{INPUT}` has both numbers and texts")));
        }
        let decode = |(index, text): (usize, &String)| {
            BASE64_STANDARD.decode(text).map(Bytes::from).map_err(|error| {
                Problem::argument(format!("`{INPUT}`: text {index} is no base64: {error}"))
            })
        };
        Ok(Values::Files(self.texts.iter().enumerate().map(decode).collect::<Result<_, _>>()?))
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut data = Self::default();
        deserializer.deserialize_seq(Sequence(&mut data))?;
        Ok(data)
    }
}

/// Appends a sequence's values to the data, those of sequences in it too.
struct Sequence<'a>(&'a mut Data);

/// Appends a value, or a sequence of them.
struct Element<'a>(&'a mut Data);

impl<'de> Visitor<'de> for Sequence<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of numbers or of texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while sequence.next_element_seed(Element(self.0))?.is_some() {}
        Ok(())
    }
}

impl<'de> serde::de::DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number from 0 to 255, a text in base64, or an array of them")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        let pixel = u8::try_from(value);
        let pixel = pixel.map_err(|_| E::custom(format_args!("{value} is above 255")))?;
        self.0.pixels.push(pixel);
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        if self.0.texts.len() == TEXT_LEN_MAX {
            return Err(E::custom(format_args!("more than {TEXT_LEN_MAX} texts")));
        }
        self.0.texts.push(value.to_owned());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<(), A::Error> {
        Sequence(self.0).visit_seq(sequence)
    }
}

/// A short list: in memory its elements take many times the room of their text.
fn few<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct Few<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Few<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "an array of up to {FEW_LEN}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<T>, A::Error> {
            let mut found = Vec::new();
            while let Some(element) = sequence.next_element()? {
                if found.len() == FEW_LEN {
                    return Err(A::Error::invalid_length(FEW_LEN + 1, &self));
                }
                found.push(element);
            }
            Ok(found)
        }
    }

    deserializer.deserialize_seq(Few(PhantomData))
}

/// A short list of objects.
fn few_objects<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let found: Vec<Object<T>> = few(deserializer)?;
    Ok(found.into_iter().map(|Object(value)| value).collect())
}

/// What a JSON object says, and no array that has its fields in their order.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Fields(PhantomData)).map(Object)
    }
}

/// Reads a request's JSON.
pub fn from_object<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, Problem> {
    let read = serde_json::from_slice(json).map(|Object(value)| value);
    read.map_err(|error| Problem::argument(format!("the request's JSON: {error}")))
}

/// Parameters out of a JSON object, or null; values of other types stand for nothing.
fn parameters<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Parameters, D::Error> {
    struct Few;

    impl<'de> Visitor<'de> for Few {
        type Value = Parameters;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "an object of up to {FEW_LEN} parameters")
        }

        fn visit_unit<E: Error>(self) -> Result<Parameters, E> {
            Ok(Parameters::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
            let mut found = Parameters::new();
            while let Some((name, Given(parameter_choice))) = map.next_entry()? {
                if found.len() == FEW_LEN {
                    return Err(A::Error::invalid_length(FEW_LEN + 1, &self));
                }
                found.insert(name, InferParameter { parameter_choice });
            }
            Ok(found)
        }
    }

    deserializer.deserialize_any(Few)
}

/// A parameter's value, none of another type.
struct Given(Option<Parameter>);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Given;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a parameter's value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Given, E> {
        Ok(Given(Some(Parameter::Bool(value))))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Given, E> {
        Ok(Given(Some(Parameter::Int64(value))))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Given, E> {
        Ok(Given(Some(Parameter::Uint64(value))))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Given, E> {
        Ok(Given(Some(Parameter::Double(value))))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Given, E> {
        Ok(Given(Some(Parameter::String(value.to_owned()))))
    }

    fn visit_unit<E: Error>(self) -> Result<Given, E> {
        Ok(Given(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Given, A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Given(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Given(None))
    }
}

/// Parameters as a JSON object.
pub fn object(parameters: &Parameters) -> Map<String, Value> {
    let value = |parameter: &InferParameter| match &parameter.parameter_choice {
        Some(Parameter::Bool(value)) => Value::from(*value),
        Some(Parameter::Int64(value)) => Value::from(*value),
        Some(Parameter::Uint64(value)) => Value::from(*value),
        Some(Parameter::Double(value)) => Value::from(*value),
        Some(Parameter::String(value)) => Value::from(value.as_str()),
        None => Value::Null,
    };
    parameters.iter().map(|(name, parameter)| (name.clone(), value(parameter))).collect()
}

/// The answer to an [`InferRequest`].
#[derive(Serialize)]
pub struct InferResponse<'a> {
    pub model_name: &'a str,
    pub model_version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub id: &'a str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub parameters: Map<String, Value>,
    pub outputs: [OutputTensor<'a>; 1],
}

/// An output of an [`InferResponse`].
#[derive(Serialize)]
pub struct OutputTensor<'a> {
    pub name: &'a str,
    pub datatype: &'a str,
    pub shape: [usize; 2],
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub parameters: Map<String, Value>,
    #[serde(flatten)]
    pub data: Option<OutputData<'a>>,
}

/// Values in JSON.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputData<'a> {
    #[serde(rename = "data")]
    Logits(&'a [f32]),
    #[serde(rename = "data")]
    Classes(&'a [String]),
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { height: 2, width: 1, len_max: 3 };

    fn images(json: &str, binary: &[u8]) -> Result<Images, String> {
        let body = [json.as_bytes(), binary].concat().into();
        let read = InferRequest::read(&body, Some(json.len()));
        read.and_then(|(request, binary)| {
            InferRequest::images(request.inputs, (LIMITS, &Regions::new(false, 0)), binary)
        })
        .map_err(|problem| problem.text)
    }

    fn input(rest: &str) -> String {
        format!(r#"{{"inputs":[{{"name":"image","datatype":"UINT8","shape":[1,2,1,3],{rest}}}]}}"#)
    }

    #[test]
    fn numbers_may_be_nested() {
        let expected = Images::Pixels { bytes: vec![0, 1, 2, 253, 254, 255].into(), len: 1 };
        for data in
            ["[0,1,2,253,254,255]", "[[[[0,1,2]],[[253,254,255]]]]", "[0,[1,2],253,[254,255]]"]
        {
            assert_eq!(images(&input(&format!(r#""data":{data}"#)), b"").unwrap(), expected);
        }
        for (data, told) in
            [("[256]", "256 is above 255"), ("[-1]", "-1"), ("[1.5]", "1.5"), ("7", "7")]
        {
            let error = images(&input(&format!(r#""data":{data}"#)), b"").unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn bytes_follow_the_json() {
        let sized = |size| input(&format!(r#""parameters":{{"binary_data_size":{size}}}"#));
        let found = images(&sized(6), &[9; 6]).unwrap();
        assert_eq!(found, Images::Pixels { bytes: vec![9; 6].into(), len: 1 });
        assert!(images(&sized(5), &[9; 6]).unwrap_err().contains("6 bytes follow the JSON"));
        assert!(images(&input(r#""data":[0,0,0,0,0,0]"#), b"x").is_err());
        assert!(images(&input(r#""parameters":{}"#), b"").is_err());
        assert!(InferRequest::read(&Bytes::from_static(b"{}"), Some(3)).is_err());
    }

    #[test]
    fn files_are_base64() {
        let json = |data| {
            let tensor = r#""name":"image","datatype":"BYTES","shape":[1]"#;
            format!(r#"{{"inputs":[{{{tensor},"data":[{data}]}}]}}"#)
        };
        assert_eq!(images(&json(r#""YWI=""#), b"").unwrap(), Images::Files(vec!["ab".into()]));
        assert!(images(&json(r#""??""#), b"").unwrap_err().contains("text 0 is no base64"));
        assert!(images(&json("1"), b"").unwrap_err().contains("image files are wanted"));
    }

    #[test]
    fn long_lists_are_refused_as_they_are_read() {
        let many = |text: &str| [text].repeat(5000).join(",");
        for (rest, told) in [
            (format!(r#""data":[{}]"#, many(r#""""#)), "more than 4096 texts"),
            (
                format!(
                    r#""parameters":{{{}}}"#,
                    (0..17).map(|i| format!(r#""{i}":[0]"#)).collect::<Vec<_>>().join(",")
                ),
                "up to 16 parameters",
            ),
        ] {
            let error = images(&input(&rest), b"").unwrap_err();
            assert!(error.contains(told), "{error}");
        }
        let error = images(&format!(r#"{{"inputs":[{}]}}"#, many("{}")), b"").unwrap_err();
        assert!(error.contains("missing field"), "{error}");
        let outputs = format!(r#"{{"inputs":[],"outputs":[{}]}}"#, many(r#"{"name":""}"#));
        assert!(images(&outputs, b"").unwrap_err().contains("up to 16"));
    }

    #[test]
    fn arrays_are_no_objects() {
        let input = r#"{"name":"image","datatype":"UINT8","shape":[1,2,1,3],"data":[0,0,0,0,0,0]}"#;
        assert!(images(&format!(r#"{{"inputs":[{input}]}}"#), b"").is_ok());
        for json in [
            format!(r#"["",null,[{input}]]"#),
            r#"{"inputs":[["image","UINT8",[1,2,1,3],null,[0,0,0,0,0,0]]]}"#.to_owned(),
            format!(r#"{{"inputs":[{input}],"outputs":[["logits",null]]}}"#),
        ] {
            let error = images(&json, b"").unwrap_err();
            assert!(error.contains("expected an object"), "{error}");
        }
    }

    #[test]
    fn parameters_of_other_types_stand_for_nothing() {
        let rest = r#""parameters":{"a":[1,[2]],"b":{"c":null},"binary_data_size":6}"#;
        assert!(images(&input(rest), &[9; 6]).is_ok());
        assert!(images(&input(r#""parameters":null,"data":[1,2,3,4,5,6]"#), b"").is_ok());
    }

    #[test]
    fn deeply_nested_data_are_refused() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(
            images(&input(&format!(r#""data":{deep}"#)), b"").unwrap_err().contains("recursion")
        );
    }
}

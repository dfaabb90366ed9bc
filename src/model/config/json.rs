//! JSON as a tree that remembers what serde would pass over: the order of keys, and keys given
//! twice.
//!
//! Invariant: a message names what is wrong in JSON's words. Knows nothing of what keys mean.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::error::{Error, Kind, Result};

/// Most characters of a value that a message quotes.
const QUOTED_LEN_MAX: usize = 60;

/// Characters before and after the place of an error in which the word at fault stands.
const WORD_LEN: usize = 10;

/// Keys and values in the order of the file, each key once.
pub(super) type Object = Vec<(String, Json)>;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(Object),
}

/// A value with the keys that lead to it.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    /// The object that it stands in, such as `pretrained_cfg`; empty at the top.
    pub(super) place: &'a str,
    pub(super) key: &'a str,
    pub(super) value: &'a Json,
}

/// The object that `text` holds.
pub(super) fn parse(text: &[u8]) -> Result<Object> {
    let is_utf16 = [&b"\xff\xfe"[..], b"\xfe\xff"].iter().any(|mark| text.starts_with(mark));
    if is_utf16 || text.iter().take(2).any(|byte| *byte == 0) {
        return Err(error("is UTF-16 or binary: expected JSON in UTF-8"));
    }
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    if let Err(fault) = str::from_utf8(text) {
        let at = fault.valid_up_to();
        return Err(error(format!("is not UTF-8 at byte {at}: expected JSON in UTF-8")));
    }
    if text.trim_ascii().is_empty() {
        return Err(error("is empty: expected a JSON object"));
    }
    if text.starts_with(b"version https://git-lfs") {
        return Err(error("is a Git LFS pointer, not the file: fetch it with `git lfs pull`"));
    }
    match serde_json::from_slice(text) {
        Ok(Json::Object(object)) => Ok(object),
        Ok(other) => Err(error(format!("holds {}: expected a JSON object", other.quoted()))),
        Err(fault) if fault.is_data() => Err(error(fault.to_string()).with_source(fault)),
        Err(fault) => {
            let hint = hint(text, &fault);
            Err(error(format!("is not JSON: {fault}{hint}")).with_source(fault))
        }
    }
}

/// What Python writes, or lets stand, that is not JSON.
fn hint(text: &[u8], fault: &serde_json::Error) -> &'static str {
    let line = text.split(|byte| *byte == b'\n').nth(fault.line().saturating_sub(1));
    let line = line.unwrap_or_default();
    let at = fault.column().min(line.len());
    let near = &line[at.saturating_sub(WORD_LEN)..line.len().min(at + WORD_LEN)];
    let has = |word: &str| near.windows(word.len()).any(|part| part == word.as_bytes());
    match () {
        () if has("NaN") || has("Infinity") => "; JSON has no NaN and no Infinity",
        () if text.trim_ascii_start().starts_with(b"<") => "; it looks like a web page",
        () if has("'") || has("None") || has("True") || has("False") || has("(") => {
            "; it looks like Python: write it with json.dump"
        }
        () => "",
    }
}

pub(super) fn error(message: impl Into<String>) -> Error {
    Error::new(Kind::Config, message)
}

impl Json {
    /// As it may stand in a message.
    pub(super) fn quoted(&self) -> String {
        cut(self.to_string(), QUOTED_LEN_MAX)
    }
}

/// The first so many characters.
pub(super) fn cut(text: String, len_max: usize) -> String {
    match text.char_indices().nth(len_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "\"{value}\""),
            Self::List(values) => {
                f.write_str("[")?;
                for (index, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Object(entries) => {
                f.write_str("{")?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}\"{key}\": {value}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str("}")
            }
        }
    }
}

impl<'a> Field<'a> {
    /// The key with the object that it stands in.
    pub(super) fn name(&self) -> String {
        let key = cut(self.key.to_owned(), QUOTED_LEN_MAX);
        match self.place {
            "" => key,
            place => format!("{place}.{key}"),
        }
    }

    /// That the value is not what was expected.
    pub(super) fn wrong(&self, expected: &str) -> Error {
        error(format!("{} is {}: expected {expected}", self.name(), self.value.quoted()))
    }

    pub(super) fn text(&self) -> Result<&'a str> {
        match self.value {
            Json::Text(text) => Ok(text),
            _ => Err(self.wrong("a string")),
        }
    }

    pub(super) fn flag(&self) -> Result<bool> {
        match self.value {
            Json::Bool(flag) => Ok(*flag),
            _ => Err(self.wrong("true or false")),
        }
    }

    pub(super) fn number(&self) -> Result<f64> {
        match self.value {
            Json::Number(number) => Ok(*number),
            _ => Err(self.wrong("a number")),
        }
    }

    pub(super) fn count(&self) -> Result<usize> {
        self.value.count().ok_or_else(|| self.wrong("a whole number"))
    }

    pub(super) fn object(&self) -> Result<&'a Object> {
        match self.value {
            Json::Object(object) => Ok(object),
            _ => Err(self.wrong("an object")),
        }
    }

    /// A number for each colour.
    pub(super) fn colours(&self) -> Result<[f32; 3]> {
        let numbers = match self.value {
            Json::List(values) => values.iter().map(Json::number).collect::<Option<Vec<_>>>(),
            _ => None,
        };
        let colours = numbers.and_then(|numbers| <[f64; 3]>::try_from(numbers).ok());
        let colours = colours.ok_or_else(|| self.wrong("3 numbers, for red, green and blue"))?;
        Ok(colours.map(|colour| colour as f32))
    }
}

impl Json {
    fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A whole number that an `f64` holds without doubt.
    pub(super) fn count(&self) -> Option<usize> {
        let is_count =
            |number: &f64| number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(number);
        self.number().filter(is_count).map(|number| number as usize)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Tree;

        impl<'de> Visitor<'de> for Tree {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> std::result::Result<Json, E> {
                Ok(Json::Null)
            }

            fn visit_bool<E>(self, value: bool) -> std::result::Result<Json, E> {
                Ok(Json::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> std::result::Result<Json, E> {
                Ok(Json::Number(value as f64))
            }

            fn visit_u64<E>(self, value: u64) -> std::result::Result<Json, E> {
                Ok(Json::Number(value as f64))
            }

            fn visit_f64<E>(self, value: f64) -> std::result::Result<Json, E> {
                Ok(Json::Number(value))
            }

            fn visit_str<E>(self, value: &str) -> std::result::Result<Json, E> {
                Ok(Json::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut access: A,
            ) -> std::result::Result<Json, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = access.next_element()? {
                    values.push(value);
                }
                Ok(Json::List(values))
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut access: A,
            ) -> std::result::Result<Json, A::Error> {
                let (mut object, mut keys) = (Object::new(), std::collections::HashSet::new());
                while let Some((key, value)) = access.next_entry::<String, Json>()? {
                    if !keys.insert(key.clone()) {
                        let key = cut(key, QUOTED_LEN_MAX);
                        let message = format!("\"{key}\" stands there twice");
                        return Err(A::Error::custom(message));
                    }
                    object.push((key, value));
                }
                Ok(Json::Object(object))
            }
        }

        deserializer.deserialize_any(Tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_they_were_written() {
        let text = r#"{"a": [1, 0.5, "x", null], "b": {"c": false}}"#;
        let object = parse(text.as_bytes()).unwrap();
        assert_eq!(Json::Object(object).to_string(), text);
        let long = Json::Text("ä".repeat(100));
        assert_eq!(long.quoted().chars().count(), QUOTED_LEN_MAX + 1);
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        assert_eq!(parse(b"\xef\xbb\xbf{}").unwrap(), []);
    }

    #[test]
    fn what_is_not_json_is_told() {
        for (text, words) in [
            (&b""[..], "is empty"),
            (b"\xef\xbb\xbf \n", "is empty"),
            (b"\xff\xfe{\0}\0", "UTF-16"),
            (b"\0{\0}", "UTF-16"),
            (b"{\"labels\": [\"caf\xe9\"]}", "is not UTF-8 at byte 16"),
            (b"null", "holds null: expected a JSON object"),
            (b"[1]", "holds [1]: expected a JSON object"),
            (b"{\"a\": NaN}", "no NaN"),
            (b"{\"a\":\n [0.1, -Infinity]}", "no NaN and no Infinity"),
            (b"{'a': 1}", "looks like Python"),
            (b"{\"a\": None}", "looks like Python"),
            (b"{\"a\": 1,}", "line 1 column 9"),
            (b"{\"a\": 1, \"b\": {\"c\": 1, \"c\": 2}}", "\"c\" stands there twice at line 1"),
            (b"<!DOCTYPE html>", "web page"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.is_config() && error.to_string().contains(words), "{error}");
        }
    }
}

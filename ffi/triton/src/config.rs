//! A model's configuration (config.pbtxt, as the server has it in JSON): what is absent is filled
//! in, what is there is held against the network.
//!
//! Invariant: a refusal names the field, what it says and what would be right. Knows nothing of the
//! server.

use std::ffi::CStr;

use serde_json::{Map, Value, json};
use twinstream::backend::BackendSpec;
use twinstream::lower::DType;

use crate::status::{Failed, Outcome};

/// The one input and the one output.
pub(crate) const INPUT: &str = "image";
pub(crate) const OUTPUT: &CStr = c"logits";
const INPUT_TYPE: &str = "TYPE_UINT8";
const OUTPUT_TYPE: &str = "TYPE_FP32";
/// Names of the classes, a line each, where the model's folder has such a file.
pub(crate) const LABELS: &str = "labels.txt";
/// The server's own parameters begin so.
const RESERVED: &str = "TRITON_";

/// Sizes of a network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) class_count: usize,
}

/// How many images a request may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestLens {
    /// Unless the configuration says.
    pub(crate) default: usize,
    pub(crate) max: usize,
}

/// What a model's parameters say.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    /// In place of a network.
    pub(crate) backend: Option<BackendSpec>,
    pub(crate) precision: Option<DType>,
    pub(crate) threads: Option<usize>,
    /// For the answers of images seen before; 0: none are kept.
    pub(crate) cache_bytes: usize,
}

/// Fills in what is absent: whether anything was.
pub(crate) fn complete(
    config: &mut Value,
    sizes: Sizes,
    lens: RequestLens,
    has_labels: bool,
) -> bool {
    let before = config.clone();
    if config["max_batch_size"].as_u64().unwrap_or(0) == 0 {
        config["max_batch_size"] = json!(lens.default);
    }
    let Sizes { height, width, class_count } = sizes;
    for (field, name, data_type, dims) in [
        ("input", INPUT, INPUT_TYPE, json!([height, width, 3])),
        ("output", output_name(), OUTPUT_TYPE, json!([class_count])),
    ] {
        if is_empty(&config[field]) {
            config[field] = json!([{ "name": name }]);
        }
        let tensor = &mut config[field][0];
        if matches!(tensor["data_type"].as_str(), None | Some("TYPE_INVALID")) {
            tensor["data_type"] = json!(data_type);
        }
        if is_empty(&tensor["dims"]) {
            tensor["dims"] = dims;
        }
    }
    let label_file = &mut config["output"][0]["label_filename"];
    if has_labels && label_file.as_str().unwrap_or("").is_empty() {
        *label_file = json!(LABELS);
    }
    *config != before
}

fn output_name() -> &'static str {
    OUTPUT.to_str().expect("it is ASCII")
}

fn is_empty(list: &Value) -> bool {
    list.as_array().is_none_or(Vec::is_empty)
}

/// Refuses what does not fit the network.
pub(crate) fn check(config: &Value, sizes: Sizes, lens: RequestLens) -> Outcome<()> {
    let len = &config["max_batch_size"];
    if !len.as_u64().is_some_and(|len| (1..=lens.max as u64).contains(&len)) {
        return Err(wrong("max_batch_size", len, &format!("from 1 to {}", lens.max)));
    }
    let Sizes { height, width, class_count } = sizes;
    for (field, name, data_type, dims) in [
        ("input", INPUT, INPUT_TYPE, json!([height, width, 3])),
        ("output", output_name(), OUTPUT_TYPE, json!([class_count])),
    ] {
        let len = config[field].as_array().map_or(0, Vec::len);
        if len != 1 {
            return Err(Failed::argument(format!(
                "config.pbtxt: {len} tensors in `{field}`: there is one, `{name}`"
            )));
        }
        let tensor = &config[field][0];
        for (part, wanted) in
            [("name", json!(name)), ("data_type", json!(data_type)), ("dims", dims)]
        {
            if tensor[part] != wanted {
                return Err(wrong(&format!("{field} {part}"), &tensor[part], &wanted.to_string()));
            }
        }
    }
    Ok(())
}

fn wrong(field: &str, found: &Value, wanted: &str) -> Failed {
    Failed::argument(format!("config.pbtxt: {field} is {found}: must be {wanted}"))
}

/// Reads the parameters.
pub(crate) fn parameters(config: &Value) -> Outcome<Parameters> {
    let none = Map::new();
    let mut parameters = Parameters::default();
    for (name, value) in config["parameters"].as_object().unwrap_or(&none) {
        let text = value["string_value"].as_str().unwrap_or_default();
        let wrong = |wanted: &str| {
            Failed::argument(format!("config.pbtxt: parameter {name} is `{text}`: {wanted}"))
        };
        match name.as_str() {
            "backend" => {
                let spec = text.parse().map_err(|error| wrong(&format!("{error}")))?;
                if matches!(spec, BackendSpec::Cpu { .. } | BackendSpec::Cuda { .. }) {
                    return Err(wrong(
                        "null and sim:DEVICE are for tests; without it instance_group says where \
                         the network is computed, by KIND_CPU or KIND_GPU",
                    ));
                }
                parameters.backend = Some(spec);
            }
            "precision" => {
                parameters.precision =
                    Some(text.parse().map_err(|error| wrong(&format!("{error}")))?);
            }
            "threads" => match text.parse() {
                Ok(threads) if threads > 0 => parameters.threads = Some(threads),
                _ => return Err(wrong("must be a whole number from 1")),
            },
            "cache_bytes" => {
                parameters.cache_bytes = text.parse().map_err(|_| {
                    wrong("must be a whole number of bytes, such as 100000000; 0 keeps none")
                })?;
            }
            _ if name.starts_with(RESERVED) => {}
            _ => {
                return Err(wrong("there are backend, cache_bytes, precision and threads alone"));
            }
        }
    }
    Ok(parameters)
}

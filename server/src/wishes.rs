//! What a request asks for beyond its images: until when, how urgently, in which form.
//!
//! Knows parameters by their names, not the protocol that carried them.

use std::time::{Duration, Instant};

use twinstream::engine::RequestOptions;
use twinstream::sched::Priority;

use crate::parameters::{flag, whole};
use crate::problem::Problem;
use crate::protocol::Parameters;
use crate::shared_memory::Place;

/// The one output.
pub const OUTPUT: &str = "logits";

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    pub options: RequestOptions,
    /// So many of the best classes as texts in place of the logits.
    pub class_len: Option<usize>,
    /// The answer says when which stage was passed.
    pub has_timing: bool,
    /// Where the output is written to in place of the response.
    pub place: Option<Place>,
    /// HTTP: the output follows the JSON as raw bytes.
    pub is_binary: bool,
}

impl Wishes {
    /// Of a request that arrived at `arrival` and, as its protocol says, has a time of `timeout`.
    pub fn new<'a>(
        parameters: &Parameters,
        mut outputs: impl Iterator<Item = (&'a str, &'a Parameters)>,
        arrival: Instant,
        timeout: Option<Duration>,
    ) -> Result<Self, Problem> {
        let own = whole(parameters, "timeout")?.filter(|us| *us > 0).map(Duration::from_micros);
        let timeout = own.into_iter().chain(timeout).min();
        let deadline = timeout.and_then(|timeout| arrival.checked_add(timeout));
        let priority = match whole(parameters, "priority")? {
            None | Some(0) => Priority::default(),
            Some(1) => Priority::High,
            Some(2) => Priority::Normal,
            Some(3) => Priority::Low,
            Some(other) => {
                return Err(Problem::argument(format!(
                    "priority is {other}: 1 is high, 2 normal, 3 low, 0 the default"
                )));
            }
        };
        let options = RequestOptions::default().deadline(deadline).priority(priority);
        let output = outputs.next();
        if let Some((name, _)) = output.filter(|(name, _)| *name != OUTPUT) {
            return Err(Problem::argument(format!("no output `{name}`: there is `{OUTPUT}`")));
        }
        if outputs.next().is_some() {
            return Err(Problem::argument(format!("more than one output: there is `{OUTPUT}`")));
        }
        let none = Parameters::new();
        let output = output.map_or(&none, |(_, parameters)| parameters);
        let class_len = whole(output, "classification")?.filter(|len| *len > 0);
        let is_binary = flag(output, "binary_data")?;
        Ok(Self {
            options,
            class_len: class_len.map(|len| usize::try_from(len).unwrap_or(usize::MAX)),
            place: Place::of(output)?,
            has_timing: flag(parameters, "timing")?.unwrap_or(false),
            is_binary: is_binary.or(flag(parameters, "binary_data_output")?).unwrap_or(false),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{InferParameter, Parameter};

    fn parameters<const N: usize>(given: [(&str, Parameter); N]) -> Parameters {
        let parameter = |value| InferParameter { parameter_choice: Some(value) };
        given.map(|(name, value)| (name.to_owned(), parameter(value))).into()
    }

    fn wishes(given: &Parameters, timeout: Option<Duration>) -> Result<Wishes, String> {
        let arrival = Instant::now();
        Wishes::new(given, std::iter::empty(), arrival, timeout).map_err(|problem| problem.text)
    }

    #[test]
    fn the_earlier_of_two_deadlines_holds() {
        let (start, hour) = (Instant::now(), Some(Duration::from_secs(3600)));
        let given = parameters([("timeout", Parameter::Int64(5_000_000))]);
        let deadline = wishes(&given, hour).unwrap().options.deadline.unwrap();
        assert!(deadline < start + Duration::from_secs(60));
        let given = parameters([("timeout", Parameter::Uint64(u64::MAX))]);
        assert!(wishes(&given, hour).unwrap().options.deadline.unwrap() > start);
        let given = parameters([("timeout", Parameter::Int64(0))]);
        assert_eq!(wishes(&given, None).unwrap().options.deadline, None);
    }

    #[test]
    fn priorities_are_those_of_triton() {
        for (number, priority) in
            [(0, Priority::Normal), (1, Priority::High), (2, Priority::Normal), (3, Priority::Low)]
        {
            let given = parameters([("priority", Parameter::Uint64(number))]);
            assert_eq!(wishes(&given, None).unwrap().options.priority, priority);
        }
        let given = parameters([("priority", Parameter::Int64(4))]);
        assert!(wishes(&given, None).unwrap_err().starts_with("priority is 4"));
    }

    #[test]
    fn parameters_of_another_type_are_refused_by_name() {
        for (name, value) in [
            ("timeout", Parameter::Int64(-1)),
            ("priority", Parameter::String("high".to_owned())),
            ("timing", Parameter::Int64(1)),
        ] {
            let error = wishes(&parameters([(name, value)]), None).unwrap_err();
            assert!(error.starts_with(&format!("parameter {name}: ")), "{error}");
        }
    }

    #[test]
    fn outputs_are_named() {
        let none = Parameters::new();
        let ask = |names: &[&'static str]| {
            let outputs = names.iter().map(|name| (*name, &none));
            Wishes::new(&none, outputs, Instant::now(), None).map_err(|problem| problem.text)
        };
        assert!(ask(&["logits"]).is_ok());
        assert_eq!(ask(&["logit"]).unwrap_err(), "no output `logit`: there is `logits`");
        assert!(ask(&["logits", "logits"]).is_err());
    }
}

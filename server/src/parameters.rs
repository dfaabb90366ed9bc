//! The values of parameters, each with one type that it must have.

use crate::problem::Problem;
use crate::protocol::{Parameter, Parameters};

/// A number from 0, if the parameter is there.
pub fn whole(parameters: &Parameters, name: &str) -> Result<Option<u64>, Problem> {
    let Some(parameter) = parameters.get(name) else { return Ok(None) };
    let value = match parameter.parameter_choice {
        Some(Parameter::Int64(value)) => u64::try_from(value).ok(),
        Some(Parameter::Uint64(value)) => Some(value),
        _ => None,
    };
    match value {
        Some(value) => Ok(Some(value)),
        None => {
            Err(Problem::argument(format!("parameter {name}: a whole number from 0 is wanted")))
        }
    }
}

/// True or false, if the parameter is there.
pub fn flag(parameters: &Parameters, name: &str) -> Result<Option<bool>, Problem> {
    let Some(parameter) = parameters.get(name) else { return Ok(None) };
    match parameter.parameter_choice {
        Some(Parameter::Bool(value)) => Ok(Some(value)),
        _ => Err(Problem::argument(format!("parameter {name}: true or false is wanted"))),
    }
}

//! `twinstream --version`: the version, and what else there is to know of a build.

use twinstream::BUILD_INFO;
use twinstream::backend::cpu::vector_instructions;

use crate::output;

pub(crate) fn print(is_verbose: bool) -> anyhow::Result<()> {
    output::print(&format!("twinstream {}", BUILD_INFO.version))?;
    if is_verbose {
        let features = BUILD_INFO.features().collect::<Vec<_>>().join(", ");
        output::print(&format!("commit: {}", BUILD_INFO.commit.unwrap_or("unknown")))?;
        output::print(&format!("target: {}", BUILD_INFO.target))?;
        output::print(&format!("features: {features}"))?;
        output::print(&format!("vector instructions on this machine: {}", vector_instructions()))?;
    }
    Ok(())
}

//! `twinstream --version`: the version, and what else there is to know of a build.

use twinstream::BUILD_INFO;
use twinstream::backend::cpu::vector_instructions;
use twinstream::lower::DType;

use crate::output;

pub(crate) fn print(is_verbose: bool) -> anyhow::Result<()> {
    output::print(&format!("twinstream {}", BUILD_INFO.version))?;
    if is_verbose {
        let own = cfg!(feature = "serve").then_some("serve");
        let features = BUILD_INFO.features().chain(own).collect::<Vec<_>>().join(", ");
        output::print(&format!("commit: {}", BUILD_INFO.commit.unwrap_or("unknown")))?;
        output::print(&format!("target: {}", BUILD_INFO.target))?;
        output::print(&format!("features: {features}"))?;
        for precision in [DType::F32, DType::BF16, DType::I8] {
            let used = vector_instructions(precision).unwrap_or("cannot be computed");
            output::print(&format!("vector instructions on this machine, {precision}: {used}"))?;
        }
    }
    Ok(())
}

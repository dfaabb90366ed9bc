//! `twinstream inspect`: the layer table of a network.

/// Print the network's layers with shapes, MACs, bytes and totals.
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> anyhow::Result<()> {
    Ok(())
}

//! What executes the network: the CPU backend, later the GPU.

pub mod cpu;

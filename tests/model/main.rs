//! Models as users have them: configurations, weights with mistakes, and logits that PyTorch gives.

#[path = "../common/mod.rs"]
mod common;
mod config;
mod golden;
mod weights;

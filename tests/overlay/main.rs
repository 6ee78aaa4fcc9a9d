//! The overlay engine without a mount, over stand-ins for base, gate and log.

#[path = "../common/mod.rs"]
mod common;

mod gate;
mod model;
mod recovery;

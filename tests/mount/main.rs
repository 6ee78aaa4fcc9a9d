//! Real mounts: over stand-ins in this process, and by the program itself.

#[path = "../common/mod.rs"]
mod common;

mod basic;
mod figures;
mod git;
mod life;
mod model;
mod numbers;
mod requests;
mod saves;

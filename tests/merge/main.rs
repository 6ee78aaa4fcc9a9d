//! Merges through the program itself: real mounts, real repositories, real crashes.

#![expect(clippy::unwrap_used, reason = "a test says what it found by failing")]
#![expect(clippy::panic, reason = "a test says what it found by failing")]

#[path = "../common/mod.rs"]
mod common;

mod checks;
mod crash;
mod flow;
mod hostile;
mod model;
mod others;
mod places;
mod world;

use common::needs;
use world::World;

/// Thirty numbered lines.
fn lines() -> String {
    (1..=30).map(|n| format!("{n}\n")).collect()
}

//! One use case a file: open the adapters, ask `domain`, apply the answer. Owns the clock and `Failure`.

pub mod clock;
pub mod failure;
pub mod site;

//! Git: base trees in, commits out, refs by compare-and-swap, the agent's private git directory. Alone names `git2`.

pub mod base;
mod link;
pub mod private;
pub mod promote;
pub mod repo;

//! The overlay and the kernel's door. `fuse` translates and decides nothing; `overlay` acts; `nodes` knows the inodes; `working` owns the private working files; `real` the trees on disk that need no log; `server` runs a mount; `counters` says what was asked and how long it took.

pub mod counters;
pub mod error;
pub mod fuse;
pub mod nodes;
pub mod overlay;
mod real;
pub mod server;
pub mod working;

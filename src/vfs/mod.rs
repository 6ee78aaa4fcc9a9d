//! The overlay and the kernel's door. `fuse` translates and decides nothing; `overlay` acts; `nodes` knows the inodes; `working` owns the private working files.

pub mod fuse;
pub mod nodes;
pub mod overlay;
pub mod working;

//! One use case a file: open the adapters, ask `domain`, apply the answer. Owns the clock and `Failure`.

pub mod agent;
pub mod busy;
pub mod checkpoint;
pub mod claim;
pub mod clock;
pub mod control;
pub mod export;
pub mod facts;
pub mod failure;
pub mod host;
pub mod init;
pub mod inside;
pub mod keeper;
pub mod keys;
pub mod live;
pub mod log;
pub mod mount;
pub mod plan;
pub mod prove;
pub mod queue;
pub mod replay;
pub mod serve;
pub mod session;
pub mod site;
pub mod verify;
pub mod virtuals;

//! What is kept on disk: the ledger and its projections (every SQL statement), the write logs, the versions, the keys.

pub mod exported;
pub mod keys;
pub mod ledger;
pub mod versions;
pub mod writelog;

//! What is kept on disk: the ledger and its projections (every SQL statement), the write logs, the versions, the keys.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

pub mod exported;
pub mod keys;
pub mod ledger;
pub mod versions;
pub mod writelog;

/// Makes one directory of a store, if it is not there. Where what is to hold it is gone, so is the
/// store: made again in the place that it was moved from, it would take what nobody finds.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

//! What kind of file system the store would stand on.

use std::fs;
use std::path::Path;

use nix::sys::statfs::{CODA_SUPER_MAGIC, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, statfs};

use crate::app::failure::Failure;

/// Newer network file systems, which `nix` has no names for.
const CIFS_MAGIC: i64 = 0xFF53_4D42;
const SMB2_MAGIC: i64 = 0xFE53_4D42;
const V9FS_MAGIC: i64 = 0x0102_1997;

/// Refuses a store where file locks or distinct names cannot be relied on.
pub fn refuse_unsafe_store(dir: &Path) -> Result<(), Failure> {
    let here =
        statfs(dir).map_err(|error| Failure::failed(format!("{}: {error}", dir.display())))?;
    let kind = here.filesystem_type();
    let network = [NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, CODA_SUPER_MAGIC].contains(&kind)
        || [CIFS_MAGIC, SMB2_MAGIC, V9FS_MAGIC].contains(&i64::from(kind.0));
    if network {
        return Err(Failure::machine(format!(
            "{} is on a network file system, where SQLite's locks cannot be relied on",
            dir.display()
        ))
        .hint("keep the repository on a local disk"));
    }
    if folds_case(dir) {
        return Err(Failure::machine(format!(
            "{} is on a file system that takes `HEAD` and `head` for one file",
            dir.display()
        ))
        .hint("keep the repository on a case-sensitive file system"));
    }
    Ok(())
}

/// Every git directory has a `HEAD`; whoever finds it as `hEaD` folds case.
fn folds_case(dir: &Path) -> bool {
    fs::symlink_metadata(dir.join("HEAD")).is_ok() && fs::symlink_metadata(dir.join("hEaD")).is_ok()
}

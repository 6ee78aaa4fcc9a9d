//! Comparing two small files of a tree on disk.
//!
//! Owns: reading both whole, each opened beneath the root. Never changes anything.

use std::fs::File;
use std::io::Read;

use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::domain::path::RepoPath;
use crate::vfs::error::Result;
use crate::vfs::real::RealTree;
use crate::vfs::real::absent;

/// Larger files are never the same.
const BYTES_MAX: u64 = 1 << 20;

impl RealTree {
    /// Says whether two files have the same bytes.
    pub(crate) fn same_bytes(&self, one: &RepoPath, other: &RepoPath) -> Result<bool> {
        let (one, other) = (self.whole(one)?, self.whole(other)?);
        Ok(one.is_some() && one == other)
    }

    fn whole(&self, path: &RepoPath) -> Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(self.open_at(path, flags, Mode::empty()).map_err(absent)?);
        let mut bytes = Vec::new();
        file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok((bytes.len() as u64 <= BYTES_MAX).then_some(bytes))
    }
}

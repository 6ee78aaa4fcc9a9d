//! Extended attributes of files and directories on disk: `user.*` alone.
//!
//! Owns: reading and changing them through an open file. Symlinks, fifos and
//! sockets have none, as on every Linux file system.

use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::fs::XattrFlags;

use crate::vfs::error::Error;
use crate::vfs::error::Result;
use crate::vfs::overlay::FileKind;
use crate::vfs::real::Prefix;
use crate::vfs::real::RealTree;

const VALUE_MAX: usize = 64 << 10;

impl RealTree {
    pub(crate) fn set_xattr(
        &self,
        ino: u64,
        prefix: Prefix<'_>,
        name: &[u8],
        value: Option<&[u8]>,
        flags: i32,
    ) -> Result<()> {
        if !name.starts_with(b"user.") {
            return Err(Error::NotSupported);
        }
        let path = self.path(ino, prefix)?;
        self.copy_up(&path, ino)?;
        let file = self.for_xattr(ino, prefix)?;
        match value {
            Some(value) => {
                let flags = XattrFlags::from_bits_retain(flags.cast_unsigned());
                rustix::fs::fsetxattr(&file, name, value, flags).map_err(io::Error::from)?;
            }
            None => rustix::fs::fremovexattr(&file, name).map_err(io::Error::from)?,
        }
        Ok(())
    }

    /// Opens a file or a directory for its attributes; other kinds have none.
    fn for_xattr(&self, ino: u64, prefix: Prefix<'_>) -> Result<Arc<File>> {
        let attr = self.attr(ino, prefix)?;
        match attr.kind {
            FileKind::Regular | FileKind::Directory => self.file(ino, prefix, false),
            _ => Err(Error::NotPermitted),
        }
    }

    pub(crate) fn xattr(&self, ino: u64, prefix: Prefix<'_>, name: &[u8]) -> Result<Vec<u8>> {
        if !name.starts_with(b"user.") {
            return Err(Error::NotSupported);
        }
        let Ok(file) = self.for_xattr(ino, prefix) else {
            return Err(Error::NoAttribute);
        };
        let mut value = vec![0; VALUE_MAX];
        let len =
            rustix::fs::fgetxattr(&file, name, value.as_mut_slice()).map_err(io::Error::from)?;
        value.truncate(len);
        Ok(value)
    }

    pub(crate) fn xattrs(&self, ino: u64, prefix: Prefix<'_>) -> Result<Vec<u8>> {
        let Ok(file) = self.for_xattr(ino, prefix) else {
            return Ok(Vec::new());
        };
        let mut names = vec![0; VALUE_MAX];
        let len = rustix::fs::flistxattr(&file, names.as_mut_slice()).map_err(io::Error::from)?;
        let mut kept = Vec::new();
        for name in names[..len].split_inclusive(|&b| b == 0) {
            if name.starts_with(b"user.") {
                kept.extend_from_slice(name);
            }
        }
        Ok(kept)
    }
}

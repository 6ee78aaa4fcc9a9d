//! Listings of trees on disk, alone and mixed into a governed directory.
//!
//! Owns: list positions: the real directory's own where it is listed alone, the
//! hash of the name where it is mixed, so that neither moves while names come
//! and go.

use std::collections::BTreeSet;
use std::io;

use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::domain::path::RepoPath;
use crate::vfs::error::Error;
use crate::vfs::error::Result;
use crate::vfs::nodes::hash_name;
use crate::vfs::overlay::Attr;
use crate::vfs::overlay::FileKind;
use crate::vfs::overlay::Listed;
use crate::vfs::real::RealTree;
use crate::vfs::real::absent;
use crate::vfs::real::is_absent;
use crate::vfs::real::kind_of_type;

const POSITION_BITS: u64 = (1 << 61) - 1;

impl RealTree {
    fn open_dir(&self, path: &RepoPath) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        Ok(Dir::new(self.open_at(path, flags, Mode::empty())?)?)
    }

    /// Says whether nothing stands in a directory (which need not exist).
    pub(crate) fn is_empty(&self, path: &RepoPath) -> Result<bool> {
        let mut is_empty = true;
        self.each_name(path, |_| {
            is_empty = false;
            false
        })?;
        Ok(is_empty)
    }

    /// Hands over the names in a directory (which need not exist) while `goes_on` says so.
    fn each_name(&self, path: &RepoPath, mut goes_on: impl FnMut(&[u8]) -> bool) -> Result<()> {
        let dir = match self.open_dir(path) {
            Ok(dir) => dir,
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for entry in dir {
            let entry = entry.map_err(io::Error::from)?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") && !goes_on(name) {
                break;
            }
        }
        Ok(())
    }

    /// Lists a directory of this tree.
    pub(crate) fn list(
        &self,
        ino: u64,
        path: &RepoPath,
        after: u64,
        plus: bool,
        each: &mut dyn FnMut(Listed) -> bool,
    ) -> Result<()> {
        if self.shares.covers(path) {
            return self.list_merged(ino, path, after, plus, each);
        }
        let mut dir = self.open_dir(path).map_err(absent)?;
        if after != 0 {
            dir.seek(after.cast_signed()).map_err(io::Error::from)?;
        }
        while let Some(entry) = dir.read() {
            let entry = entry.map_err(io::Error::from)?;
            let name = entry.file_name().to_bytes();
            let dots = matches!(name, b"." | b"..");
            let attr = if plus && !dots {
                match self.attr_in(&dir, path, name) {
                    Ok(attr) => Some(attr),
                    Err(Error::NoEntry) => continue,
                    Err(error) => return Err(error),
                }
            } else {
                None
            };
            let listed = Listed {
                name: name.to_vec(),
                ino: attr.map_or_else(|| self.realm.ino(entry.ino()), |attr| attr.ino),
                kind: attr.map_or_else(|| kind_of_type(entry.file_type()), |attr| attr.kind),
                next: entry.offset().cast_unsigned(),
                attr,
            };
            if each(listed) {
                return Ok(());
            }
            if let Some(attr) = attr {
                self.know(attr.ino, ino, name);
            }
        }
        Ok(())
    }

    fn attr_in(&self, dir: &Dir, path: &RepoPath, name: &[u8]) -> Result<Attr> {
        let fd = dir.fd().map_err(io::Error::from)?;
        let stat = rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| absent(error.into()))?;
        Ok(self.attr_of(&stat, &path.join(name)?))
    }

    /// Lists what stands in a governed directory, after position `after`;
    /// `taken` names are the session's own.
    pub(crate) fn list_mixed(
        &self,
        ino: u64,
        path: &RepoPath,
        after: u64,
        plus: bool,
        taken: &dyn Fn(&[u8]) -> bool,
        each: &mut dyn FnMut(Listed) -> bool,
    ) -> Result<()> {
        let mut names = self.names_in(path)?;
        for name in self.shares.names_in(path) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if path.is_root() {
            names.retain(|name| name != b".govfs"); // the list of what was removed from shares
        }
        names.retain(|name| !taken(name));
        self.list_hashed(ino, path, (names, after), plus, each)
    }

    /// Lists names by their hash, after a position that has the same high bits.
    fn list_hashed(
        &self,
        ino: u64,
        path: &RepoPath,
        (names, after): (Vec<Vec<u8>>, u64),
        plus: bool,
        each: &mut dyn FnMut(Listed) -> bool,
    ) -> Result<()> {
        let mixed = after & !POSITION_BITS;
        let mut names: Vec<(u64, Vec<u8>)> = names
            .into_iter()
            .map(|name| (mixed | (hash_name(0, &name) & POSITION_BITS), name))
            .filter(|(position, _)| *position > after)
            .collect();
        names.sort_unstable();
        for (next, name) in names {
            let below = path.join(&name)?;
            let Ok(stat) = self.stat_path(&below) else {
                continue;
            };
            let attr = self.attr_of(&stat, &below);
            let full = each(Listed {
                name: name.clone(),
                ino: attr.ino,
                kind: attr.kind,
                next,
                attr: plus.then_some(attr),
            });
            if full {
                return Ok(());
            }
            if plus {
                self.know(attr.ino, ino, &name);
            }
        }
        Ok(())
    }

    /// Lists a directory that a share has a part in: `.`, `..`, then by the hash of the name.
    fn list_merged(
        &self,
        ino: u64,
        path: &RepoPath,
        after: u64,
        plus: bool,
        each: &mut dyn FnMut(Listed) -> bool,
    ) -> Result<()> {
        for (next, name) in [(1, b".".as_slice()), (2, b"..")] {
            if next > after
                && each(Listed {
                    name: name.to_vec(),
                    ino,
                    kind: FileKind::Directory,
                    next,
                    attr: None,
                })
            {
                return Ok(());
            }
        }
        let mut own: BTreeSet<Vec<u8>> = self.names_in(path)?.into_iter().collect();
        match self.shares.list(path) {
            Ok(names) => own.extend(names),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(error.into()),
        }
        let names = own.into_iter().collect();
        self.list_hashed(ino, path, (names, after.max(1 << 62)), plus, each)
    }

    fn names_in(&self, path: &RepoPath) -> Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        self.each_name(path, |name| {
            names.push(name.to_vec());
            true
        })?;
        Ok(names)
    }
}

//! Rarer changes of a file: ranges copied, allocated, punched; attributes; seeking.
//!
//! Owns: the calls that programs can do without, each gated and logged like a
//! write. A copied range is hashed and logged piece by piece. Of extended
//! attributes only `user.*` exist; their values are kept as versions, so that a
//! remount finds them.

use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::domain::digest::Digest;
use crate::domain::gate::Tried;
use crate::domain::logop::Bytes;
use crate::domain::logop::LogOp;
use crate::vfs::error::Error;
use crate::vfs::error::Result;
use crate::vfs::nodes::Realm;
use crate::vfs::overlay::Caller;
use crate::vfs::overlay::Overlay;
use crate::vfs::working::Body;
use crate::vfs::working::FileMore;

/// Bytes that one copying request moves at most, so that others get their turn.
const COPY_MAX: u64 = 16 << 20;
const COPY_PIECE: u32 = 1 << 20;
const NAME_MAX: usize = 255;
const VALUE_MAX: usize = 64 << 10;

impl Overlay {
    /// Copies a range between two files; returns how much was copied.
    pub fn copy_range(
        &self,
        (from, from_at): (u64, u64),
        (to, to_at): (u64, u64),
        len: u64,
        caller: Caller,
    ) -> Result<u32> {
        let mut done = 0_u64;
        let len = len.min(COPY_MAX);
        while done < len {
            let piece = u32::try_from(len - done)
                .unwrap_or(COPY_PIECE)
                .min(COPY_PIECE);
            let bytes = self.read(from, from_at + done, piece, <[u8]>::to_vec)?;
            if bytes.is_empty() {
                break;
            }
            match self.write(to, to_at + done, &bytes, false, caller) {
                Ok(written) => done += u64::from(written),
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
            if bytes.len() < piece as usize {
                break;
            }
        }
        Ok(u32::try_from(done).unwrap_or(u32::MAX))
    }

    /// Allocates, zeroes or punches a range, by the bits of `fallocate(2)`.
    pub fn allocate(
        &self,
        ino: u64,
        offset: u64,
        len: u64,
        mode: i32,
        caller: Caller,
    ) -> Result<()> {
        let end = (offset.checked_add(len))
            .filter(|&end| i64::try_from(end).is_ok())
            .ok_or(Error::TooBig)?;
        let (keep, punch, zero) = (
            libc::FALLOC_FL_KEEP_SIZE,
            libc::FALLOC_FL_PUNCH_HOLE,
            libc::FALLOC_FL_ZERO_RANGE,
        );
        if mode & !(keep | punch | zero) != 0 || mode & (punch | zero) == (punch | zero) {
            return Err(Error::NotSupported);
        }
        if Realm::of(ino) != Realm::Tree {
            self.check_real(ino, Tried::Allocate, caller)?;
            let real = self.real(ino)?;
            let file = real.file(ino, &|dir| self.tree_path(dir), true)?;
            return allocate_file(&file, mode, offset, len);
        }
        let state = self.changeable(ino)?;
        let grows = mode & keep == 0 && end > state.size();
        if mode & (punch | zero) == 0 {
            self.check_change(ino, Tried::Allocate, caller)?;
            if grows {
                self.truncate(ino, end, caller)?;
            }
            let mut data = state.lock();
            let file = self.working(ino, &state, &mut data)?;
            return allocate_file(&file, mode | keep, offset, len);
        }
        self.punch(ino, &state, (offset, len), mode, caller)
    }

    fn punch(
        &self,
        ino: u64,
        state: &FileMore,
        (offset, len): (u64, u64),
        mode: i32,
        caller: Caller,
    ) -> Result<()> {
        let mut data = state.lock();
        self.check_change(ino, Tried::Allocate, caller)?;
        let file = self.working(ino, state, &mut data)?;
        let keeps = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        let size = if keeps {
            state.size()
        } else {
            state.size().max(offset + len)
        };
        let by = self.actors.brief(caller.pid);
        let recorded =
            self.log_change(ino, Tried::Allocate, caller, |path, claim| LogOp::Hole {
                path,
                offset,
                len,
                size,
                claim,
                by,
            })?;
        if let Err(error) = allocate_file(&file, mode, offset, len) {
            self.void(recorded, &error.to_string());
            return Err(error);
        }
        data.touched();
        state.set_size(size);
        state.changed(recorded.map_or_else(|| self.now(), |recorded| recorded.ts.0));
        self.mark_dirty(ino);
        Ok(())
    }

    /// Sets (`Some`) or removes a `user.*` attribute of a governed file.
    pub fn set_xattr(
        &self,
        ino: u64,
        name: &[u8],
        value: Option<&[u8]>,
        flags: i32,
        caller: Caller,
    ) -> Result<()> {
        match Realm::of(ino) {
            Realm::Tree => {}
            Realm::Scratch | Realm::Gitdir => {
                self.check_real(ino, Tried::Xattr, caller)?;
                let prefix = |dir| self.tree_path(dir);
                return self.real(ino)?.set_xattr(ino, &prefix, name, value, flags);
            }
            Realm::Control => return Err(Error::NotSupported),
        }
        if !name.starts_with(b"user.") {
            return Err(Error::NotSupported);
        }
        if name.len() > NAME_MAX || value.is_some_and(|value| value.len() > VALUE_MAX) {
            return Err(Error::Range);
        }
        let more = self.changeable(ino)?;
        let _data = more.lock();
        {
            let xattrs = more.xattrs.lock();
            let there = xattrs.contains_key(name);
            let must_exist = value.is_none() || flags & libc::XATTR_REPLACE != 0;
            if must_exist && !there {
                return Err(Error::NoAttribute);
            }
            if flags & libc::XATTR_CREATE != 0 && there {
                return Err(Error::Exists);
            }
        }
        self.check_change(ino, Tried::Xattr, caller)?;
        let sha256 = value.map(|value| self.keep_value(ino, value)).transpose()?;
        let by = self.actors.brief(caller.pid);
        let recorded = self.log_change(ino, Tried::Xattr, caller, |path, claim| LogOp::Xattr {
            path,
            name: Bytes(name.to_vec()),
            sha256,
            claim,
            by,
        })?;
        let mut xattrs = more.xattrs.lock();
        match value {
            Some(value) => xattrs.insert(name.to_vec(), value.to_vec()),
            None => xattrs.remove(name),
        };
        more.set_ctime(recorded.map_or_else(|| self.now(), |recorded| recorded.ts.0));
        Ok(())
    }

    /// Stores an attribute's value as a version, so that a remount finds it.
    fn keep_value(&self, ino: u64, value: &[u8]) -> Result<Digest> {
        use std::io::Write;
        let sha256 = Digest::of(value);
        let name = format!("{ino:016x}.value");
        let mut file = self.work.named(&name)?;
        file.write_all(value)?;
        let kept = self.gate.keep(&file, &name, &sha256, false);
        self.work.remove_name(&name);
        kept?;
        Ok(sha256)
    }

    pub fn xattr(&self, ino: u64, name: &[u8]) -> Result<Vec<u8>> {
        match Realm::of(ino) {
            Realm::Tree => {}
            Realm::Scratch | Realm::Gitdir => {
                return self.real(ino)?.xattr(ino, &|dir| self.tree_path(dir), name);
            }
            Realm::Control => return Err(Error::NoAttribute),
        }
        if !name.starts_with(b"user.") {
            return Err(Error::NotSupported);
        }
        let tree = self.tree.read();
        let node = tree.node(tree.by_ino(ino)?);
        let value = (node.file()).and_then(|file| file.xattrs.lock().get(name).cloned());
        value.ok_or(Error::NoAttribute)
    }

    /// Returns the names of all attributes, each ended by a NUL.
    pub fn xattrs(&self, ino: u64) -> Result<Vec<u8>> {
        match Realm::of(ino) {
            Realm::Tree => {}
            Realm::Scratch | Realm::Gitdir => {
                return self.real(ino)?.xattrs(ino, &|dir| self.tree_path(dir));
            }
            Realm::Control => return Ok(Vec::new()),
        }
        let tree = self.tree.read();
        let node = tree.node(tree.by_ino(ino)?);
        let mut names = Vec::new();
        if let Some(file) = node.file() {
            for name in file.xattrs.lock().keys() {
                names.extend_from_slice(name);
                names.push(0);
            }
        }
        Ok(names)
    }

    /// Finds the next data (`SEEK_DATA`) or hole at or after `offset`.
    pub fn seek(&self, ino: u64, offset: u64, data: bool) -> Result<u64> {
        let file = match Realm::of(ino) {
            Realm::Tree => self.file_to_seek(ino)?,
            Realm::Scratch | Realm::Gitdir => Some(self.real(ino)?.file(
                ino,
                &|dir| self.tree_path(dir),
                false,
            )?),
            Realm::Control => None,
        };
        if let Some(file) = file {
            let from = if data {
                rustix::fs::SeekFrom::Data(offset)
            } else {
                rustix::fs::SeekFrom::Hole(offset)
            };
            return Ok(rustix::fs::seek(&file, from).map_err(io::Error::from)?);
        }
        let size = self.getattr(ino, Caller::default())?.size;
        match (offset < size, data) {
            (false, _) => Err(Error::PastEnd),
            (true, true) => Ok(offset),
            (true, false) => Ok(size),
        }
    }

    fn file_to_seek(&self, ino: u64) -> Result<Option<Arc<File>>> {
        let more = {
            let tree = self.tree.read();
            tree.node(tree.by_ino(ino)?).file().cloned()
        };
        let Some(more) = more else { return Ok(None) };
        let working = more.lock().body == Body::Working;
        Ok(working.then(|| self.work.open(ino)).transpose()?)
    }
}

fn allocate_file(file: &File, mode: i32, offset: u64, len: u64) -> Result<()> {
    let flags = rustix::fs::FallocateFlags::from_bits_retain(mode.cast_unsigned());
    Ok(rustix::fs::fallocate(file, flags, offset, len).map_err(io::Error::from)?)
}

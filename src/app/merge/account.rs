//! Whether every byte of a version came through the mount.
//!
//! Owns: holding versions against the writes that made them. A version's hash is of
//! the bytes that settled; a byte that somebody put into a working file behind the
//! mount would be among them. So each stretch of each version since the file was
//! last made or emptied must be what its entry wrote, or what stood there before.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::candidate::{bad, lost};
use crate::app::failure::Failure;
use crate::domain::base::Base;
use crate::domain::digest::Hasher;
use crate::domain::layer::account::{Account, Origin, Step, Stretch};
use crate::domain::names::SessionId;
use crate::domain::path::RepoPath;
use crate::git::base::GitBase;
use crate::store::versions::Versions;

const PIECE: usize = 1 << 18;
/// Of more versions only the last is read, held against all writes at once.
const STEPS_MAX: usize = 32;

/// Where bytes are found that entries speak of.
pub(super) struct Books<'a> {
    pub(super) session: &'a SessionId,
    pub(super) base: &'a GitBase,
    pub(super) versions: &'a Versions,
}

/// The bytes that a file had before.
enum Before {
    Nothing,
    Held(Vec<u8>),
    File(File),
}

impl Books<'_> {
    /// Checks every version of `path` that its present bytes rest on.
    pub(super) fn check(&self, path: &RepoPath, account: &Account) -> Result<(), Failure> {
        if let Some((offset, (len, _))) = account.lost.iter().next() {
            return Err(Failure::integrity(format!(
                "{path}: {len} bytes at {offset} were lost in a crash, and no entry accounts for what stands there"
            ))
            .hint("mount the session once more and write them again"));
        }
        if account.steps.len() > STEPS_MAX {
            return account
                .at_once()
                .map_or(Ok(()), |step| self.step(path, &step));
        }
        let steps = account.steps.iter();
        steps
            .filter(|step| !step.is_one_write())
            .try_for_each(|step| self.step(path, step))
    }

    fn step(&self, path: &RepoPath, step: &Step) -> Result<(), Failure> {
        let file = self.versions.open(&step.sha256);
        let file = file.map_err(|error| bad(path, &error))?;
        let before = self.before(path, step)?;
        let mut at = 0;
        let ends = std::iter::once((&step.size, &(0, Stretch::Unknown)));
        for (&offset, &(len, stretch)) in step.stretches.iter().chain(ends) {
            let offset = offset.min(step.size);
            let kept = before.same(&file, at, offset, step.origin_len);
            let end = offset.saturating_add(len).min(step.size);
            let same = kept.and_then(|kept| Ok(kept && holds(&file, offset, end, len, stretch)?));
            match same {
                Ok(true) => at = end.max(at),
                Ok(false) => return Err(self.foreign(path, step, at, end)),
                Err(error) => return Err(Failure::failed(format!("{path}: {error}"))),
            }
        }
        Ok(())
    }

    fn before(&self, path: &RepoPath, step: &Step) -> Result<Before, Failure> {
        Ok(match &step.origin {
            Origin::Nothing => Before::Nothing,
            Origin::Version(sha256) => {
                let file = self.versions.open(sha256);
                Before::File(file.map_err(|error| bad(path, &error))?)
            }
            Origin::Base(from) => {
                let found = self.base.find(from).map_err(|error| lost(from, &error))?;
                match found {
                    None => Before::Nothing,
                    Some(entry) => {
                        let bytes = self.base.read(from, &entry);
                        Before::Held(bytes.map_err(|error| lost(from, &error))?)
                    }
                }
            }
        })
    }

    fn foreign(&self, path: &RepoPath, step: &Step, from: u64, to: u64) -> Failure {
        Failure::integrity(format!(
            "{path}: between bytes {from} and {to} it is not what was written through the mount ({}:{})",
            self.session, step.entry
        ))
        .hint("mount the session once more and write the file anew")
    }
}

impl Before {
    fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        match self {
            Self::Nothing => Ok(0),
            Self::Held(bytes) => {
                let from = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                let count = buffer.len().min(bytes.len() - from);
                buffer[..count].copy_from_slice(&bytes[from..from + count]);
                Ok(count)
            }
            Self::File(file) => full_read(file, buffer, at),
        }
    }

    /// Says whether `file` has, between two offsets, these bytes up to `len` and zeros after.
    fn same(&self, file: &File, from: u64, to: u64, len: u64) -> io::Result<bool> {
        let mut at = from;
        let (mut is, mut was) = (vec![0; PIECE], vec![0; PIECE]);
        while at < to {
            let count = piece(to - at);
            if full_read(file, &mut is[..count], at)? != count {
                return Ok(false);
            }
            was[..count].fill(0);
            let shown = piece(len.saturating_sub(at)).min(count);
            self.read(&mut was[..shown], at)?;
            if is[..count] != was[..count] {
                return Ok(false);
            }
            at += count as u64;
        }
        Ok(true)
    }
}

/// Says whether a stretch of `file` is what it must be; of a write, only where all of it is there.
fn holds(file: &File, from: u64, to: u64, len: u64, stretch: Stretch) -> io::Result<bool> {
    match stretch {
        Stretch::Unknown => Ok(true),
        Stretch::Zeros => Before::Nothing.same(file, from, to, 0),
        Stretch::Written(_) if to - from < len => Ok(true),
        Stretch::Written(sha256) => {
            let (mut hasher, mut at) = (Hasher::default(), from);
            let mut buffer = vec![0; piece(to - from)];
            while at < to {
                let count = piece(to - at);
                if full_read(file, &mut buffer[..count], at)? != count {
                    return Ok(false);
                }
                hasher.update(&buffer[..count]);
                at += count as u64;
            }
            Ok(hasher.finish() == sha256)
        }
    }
}

fn piece(len: u64) -> usize {
    usize::try_from(len).unwrap_or(PIECE).min(PIECE)
}

/// Reads until the buffer is full or the file ends.
fn full_read(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], at + got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

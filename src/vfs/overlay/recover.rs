//! After a crash: files that had not settled are held against their entries.
//!
//! Invariant: recovery never guesses. What is found is compared with the entries,
//! recorded as `recovered`, and kept as a version. A last write that was never
//! answered, and of which nothing is there, came to nothing: its entry is voided.

use std::fs::File;

use crate::domain::digest::Digest;
use crate::domain::logop::LogOp;
use crate::vfs::error::Result;
use crate::vfs::nodes::TRANSIENT;
use crate::vfs::overlay::Overlay;
use crate::vfs::overlay::content::read_at;
use crate::vfs::overlay::replay::{Unsettled, settled};
use crate::vfs::working::Body;
use crate::vfs::working::hash_file;
use crate::vfs::working::work_name;

/// A range that some entry wrote and nothing settled since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wrote {
    pub(super) seq: u64,
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) sha256: Digest,
    /// Something else was done to the file afterwards, so it had been answered.
    pub(super) answered: bool,
}

impl Overlay {
    /// Holds every file that had not settled against its entries.
    pub(super) fn recover(&self, unsettled: &Unsettled, same_boot: bool) -> Result<()> {
        let all: Vec<u64> = {
            let tree = self.tree.read();
            let files = tree.all().filter(|&idx| {
                let file = tree.node(idx).file();
                file.is_some_and(|file| tree.node(idx).kind.is_file() && file.lock().unsettled)
            });
            files.map(|idx| tree.node(idx).ino).collect()
        };
        for ino in all {
            let writes = unsettled.writes.get(&ino).map_or(&[][..], Vec::as_slice);
            self.recover_file(ino, writes, same_boot)?;
        }
        Ok(())
    }

    fn recover_file(&self, ino: u64, writes: &[Wrote], same_boot: bool) -> Result<()> {
        let more = self.changeable(ino)?;
        let (path, transient) = {
            let tree = self.tree.read();
            let idx = tree.by_ino(ino)?;
            (tree.path(idx)?, tree.node(idx).is(TRANSIENT))
        };
        let mut lost = Vec::new();
        let file = if self.work.exists(ino) {
            more.lock().body = Body::Working;
            self.work.make_own(ino)?;
            let file = self.work.open(ino)?;
            lost = lost_ranges(&file, writes, same_boot)?;
            let mut len = file.metadata()?.len();
            if same_boot
                && !lost.is_empty()
                && let Some(seq) = never_begun(&file, len, writes)?
            {
                self.gate.record(&LogOp::Void {
                    entry: seq,
                    reason: "the server ended before it was done".to_owned(),
                })?;
                lost.clear();
                more.set_size(len);
            }
            if len > more.size() {
                file.set_len(more.size())?; // cut short in the log, and then not on disk
                len = more.size();
            }
            if len < more.size() && lost.is_empty() {
                lost.push((len, more.size() - len));
            }
            more.set_size(len);
            file
        } else {
            // Nothing was written to it, or the directory entry never reached the disk.
            lost.extend(writes.iter().map(|wrote| (wrote.offset, wrote.len)));
            let mut data = more.lock();
            let file = self.working(ino, &more, &mut data)?;
            more.set_size(file.metadata()?.len());
            file
        };
        if transient {
            self.dirty.lock().remove(&ino);
            return Ok(());
        }
        let size = more.size();
        let sha256 = hash_file(&file, size)?;
        (self.gate).keep(&file, &work_name(ino), &sha256, true)?;
        self.gate.record(&LogOp::Recovered {
            path,
            size,
            sha256,
            lost,
        })?;
        settled(&more, sha256);
        self.work.remove(ino);
        self.dirty.lock().remove(&ino);
        Ok(())
    }
}

/// Returns the last write where the server ended before it was answered and nothing of it
/// is in the file: where the file ends before it, or an earlier write stands there whole.
fn never_begun(file: &File, len: u64, writes: &[Wrote]) -> Result<Option<u64>> {
    let Some((last, before)) = writes.split_last() else {
        return Ok(None);
    };
    if last.answered {
        return Ok(None);
    }
    if len <= last.offset {
        return Ok(Some(last.seq));
    }
    let end = last.offset + last.len;
    let newest = before
        .iter()
        .rev()
        .find(|wrote| wrote.offset < end && last.offset < wrote.offset + wrote.len);
    match newest {
        Some(under) if under.offset <= last.offset && end <= under.offset + under.len => {
            let size = u32::try_from(under.len).unwrap_or(u32::MAX);
            let bytes = read_at(file, under.offset, size)?;
            Ok((Digest::of(&bytes) == under.sha256).then_some(last.seq))
        }
        _ => Ok(None),
    }
}

/// Returns the ranges whose bytes are not what their entries say.
fn lost_ranges(file: &File, writes: &[Wrote], same_boot: bool) -> Result<Vec<(u64, u64)>> {
    let mut lost = Vec::new();
    let mut later: Vec<(u64, u64)> = Vec::new();
    for wrote in writes.iter().rev() {
        let end = wrote.offset + wrote.len;
        let overwritten = later
            .iter()
            .any(|&(from, to)| from < end && wrote.offset < to);
        let checked = !same_boot || later.is_empty();
        if checked && !overwritten {
            let len = u32::try_from(wrote.len).unwrap_or(u32::MAX);
            let bytes = read_at(file, wrote.offset, len)?;
            if Digest::of(&bytes) != wrote.sha256 {
                lost.push((wrote.offset, wrote.len));
            }
        } else if checked && overwritten && !same_boot {
            let whole = later
                .iter()
                .any(|&(from, to)| from <= wrote.offset && end <= to);
            if !whole {
                lost.push((wrote.offset, wrote.len)); // nothing tells whether its rest is there
            }
        }
        later.push((wrote.offset, end));
    }
    lost.reverse();
    Ok(lost)
}

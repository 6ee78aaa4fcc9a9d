//! The index file, entry by entry: read from one end to the other, and written so.
//!
//! Owns: versions 2 to 4 of git's format, its checksum, and what becomes of the
//! extensions: the tree cache is kept but for what changed, undo records are kept,
//! what git can make again is left out. What git must understand to read the
//! entries (a split or sparse index) is refused.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};

use nix::sys::stat::FileStat;

use super::Tracked;
use crate::domain::base::Oid;
use crate::git::private::sha1::Sha1;
use crate::git::promote::Leaf;

const MAGIC: &[u8; 4] = b"DIRC";
const BUFFER: usize = 1 << 18;
const SUM: u64 = 20;
/// Times, places, mode, owner and size.
const STAT: usize = 40;
const EXTENDED: u16 = 1 << 14;
const SKIP_WORKTREE: u16 = 1 << 14;
const INTENT_TO_ADD: u16 = 1 << 13;
const NAME_MASK: u16 = 0xfff;
/// An extension that is kept is held in memory; none of a sane index is larger.
const KEPT_MAX: u32 = 256 << 20;
/// No path that git writes is longer.
const PATH_MAX: usize = 1 << 16;

/// Why an index cannot be read.
#[derive(Debug)]
pub(super) enum Fault {
    Unreadable(&'static str),
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::Unreadable("it is cut short")
        } else {
            Self::Io(error)
        }
    }
}

type Result<T> = std::result::Result<T, Fault>;

/// What follows the entries: a name and its data.
pub(super) type Extension = ([u8; 4], Vec<u8>);

/// One entry as it stands in the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    stat: Vec<u8>,
    oid: [u8; 20],
    flags: u16,
    extended: u16,
}

impl Entry {
    /// Makes an entry; without a status its file is outside a sparse checkout, or a directory.
    pub(super) fn new(path: &[u8], leaf: Leaf, stat: Option<&FileStat>, skipped: bool) -> Self {
        let mut fields = stat.map_or([0; 10], described);
        fields[6] = leaf.mode;
        Self {
            path: path.to_vec(),
            stat: fields
                .iter()
                .flat_map(|field| field.to_be_bytes())
                .collect(),
            oid: leaf.oid.0,
            flags: if skipped { EXTENDED } else { 0 },
            extended: if skipped { SKIP_WORKTREE } else { 0 },
        }
    }

    fn field(&self, at: usize) -> u32 {
        let bytes = self.stat.get(at * 4..at * 4 + 4).unwrap_or(&[0; 4]);
        bytes
            .iter()
            .fold(0, |all, &byte| all << 8 | u32::from(byte))
    }

    pub(super) fn tracked(&self) -> Tracked {
        Tracked {
            leaf: Leaf {
                mode: self.field(6),
                oid: Oid(self.oid),
            },
            skipped: self.is_skipped(),
            intended: self.extended & INTENT_TO_ADD != 0,
            mtime: (self.field(2).cast_signed(), self.field(3)),
            size: self.field(9),
            inode: self.field(5),
        }
    }

    pub(super) fn stage(&self) -> u16 {
        self.flags >> 12 & 3
    }

    pub(super) fn is_skipped(&self) -> bool {
        self.extended & SKIP_WORKTREE != 0
    }

    pub(super) fn is_extended(&self) -> bool {
        self.flags & EXTENDED != 0
    }

    /// Makes git look at the file again.
    pub(super) fn forget_time(&mut self) {
        self.stat[8..16].fill(0);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the index keeps the low 32 bits of what stat says"
)]
fn described(stat: &FileStat) -> [u32; 10] {
    [
        stat.st_ctime as u32,
        stat.st_ctime_nsec as u32,
        stat.st_mtime as u32,
        stat.st_mtime_nsec as u32,
        stat.st_dev as u32,
        stat.st_ino as u32,
        0,
        stat.st_uid,
        stat.st_gid,
        stat.st_size as u32,
    ]
}

/// Reads an index from front to back.
pub(super) struct Reader {
    source: BufReader<File>,
    /// None where the sum was checked before.
    sum: Option<Sha1>,
    at: u64,
    len: u64,
    version: u32,
    count: usize,
    left: usize,
    entry: Entry,
}

impl Reader {
    pub(super) fn new(file: File, checks: bool) -> Result<Self> {
        let len = file.metadata()?.len();
        let mut reader = Self {
            source: BufReader::with_capacity(BUFFER, file),
            sum: checks.then(Sha1::default),
            at: 0,
            len,
            version: 0,
            count: 0,
            left: 0,
            entry: Entry::default(),
        };
        if reader.bytes::<4>()? != *MAGIC {
            return Err(Fault::Unreadable("it is no index"));
        }
        reader.version = u32::from_be_bytes(reader.bytes()?);
        if !(2..=4).contains(&reader.version) {
            return Err(Fault::Unreadable("it has a version that is not known"));
        }
        reader.left = u32::from_be_bytes(reader.bytes()?) as usize;
        reader.count = reader.left;
        Ok(reader)
    }

    /// The version and how many entries there are.
    pub(super) fn shape(&self) -> (u32, usize) {
        (self.version, self.count)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.source.read_exact(bytes)?;
        if let Some(sum) = &mut self.sum {
            sum.update(bytes);
        }
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Returns the next entry, good until the one after.
    pub(super) fn next(&mut self) -> Result<Option<&mut Entry>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let mut fixed = [0; STAT + 22];
        self.fill(&mut fixed)?;
        let flags = u16::from_be_bytes([fixed[STAT + 20], fixed[STAT + 21]]);
        self.entry.stat.clear();
        self.entry.stat.extend_from_slice(&fixed[..STAT]);
        self.entry.oid.copy_from_slice(&fixed[STAT..STAT + 20]);
        self.entry.flags = flags;
        let mut head = fixed.len();
        self.entry.extended = 0;
        if flags & EXTENDED != 0 {
            if self.version < 3 {
                return Err(Fault::Unreadable("it has flags that its version has not"));
            }
            self.entry.extended = u16::from_be_bytes(self.bytes()?);
            head += 2;
        }
        if self.version == 4 {
            self.compressed_path()?;
        } else {
            self.padded_path(head, flags & NAME_MASK)?;
        }
        Ok(Some(&mut self.entry))
    }

    /// A path and one to eight NULs, so that the entry is a multiple of eight long.
    fn padded_path(&mut self, head: usize, len: u16) -> Result<()> {
        let mut path = std::mem::take(&mut self.entry.path);
        path.clear();
        let known = len < NAME_MASK;
        if known {
            path.resize(usize::from(len), 0);
            self.fill(&mut path)?;
        } else {
            self.until_nul(&mut path)?;
        }
        let end = (head + path.len() + 8) & !7;
        let missing = end - head - path.len() - usize::from(!known);
        let mut padding = [0; 8];
        self.fill(&mut padding[..missing])?;
        self.entry.path = path;
        Ok(())
    }

    /// What differs from the path before: how much of its end goes, and what comes instead.
    fn compressed_path(&mut self) -> Result<()> {
        let [mut byte] = self.bytes()?;
        let mut strip = usize::from(byte & 127);
        while byte & 128 != 0 {
            [byte] = self.bytes()?;
            strip = (strip.saturating_add(1) << 7) + usize::from(byte & 127);
            if strip > PATH_MAX {
                break;
            }
        }
        let mut path = std::mem::take(&mut self.entry.path);
        let Some(keep) = path.len().checked_sub(strip) else {
            return Err(Fault::Unreadable(
                "a path is shorter than what is cut from it",
            ));
        };
        path.truncate(keep);
        self.until_nul(&mut path)?;
        self.entry.path = path;
        Ok(())
    }

    fn until_nul(&mut self, path: &mut Vec<u8>) -> Result<()> {
        let before = path.len();
        let mut limited = (&mut self.source).take(PATH_MAX as u64);
        limited.read_until(0, path)?;
        if let Some(sum) = &mut self.sum {
            sum.update(&path[before..]);
        }
        self.at += (path.len() - before) as u64;
        if path.pop() == Some(0) {
            Ok(())
        } else {
            Err(Fault::Unreadable("a path does not end"))
        }
    }

    /// Reads what follows the entries, checks the sum, and returns the extensions to keep.
    pub(super) fn finish(mut self) -> Result<Vec<Extension>> {
        let mut kept = Vec::new();
        while self.at + SUM < self.len {
            let name: [u8; 4] = self.bytes()?;
            let size = u32::from_be_bytes(self.bytes()?);
            if !name[0].is_ascii_uppercase() {
                return Err(Fault::Unreadable(
                    "it is split, sparse or newer than is known",
                ));
            }
            if self.at + u64::from(size) + SUM > self.len {
                return Err(Fault::Unreadable("it is cut short"));
            }
            if [b"TREE", b"REUC"].contains(&&name) && size <= KEPT_MAX {
                let mut data = vec![0; size as usize];
                self.fill(&mut data)?;
                kept.push((name, data));
            } else {
                self.skip(size)?;
            }
        }
        let Some(sum) = self.sum.clone() else {
            return Ok(kept);
        };
        let told: [u8; 20] = self.bytes()?;
        // Git may be told to write no sum.
        if told == sum.finish() || told == [0; 20] {
            Ok(kept)
        } else {
            Err(Fault::Unreadable("its sum is wrong"))
        }
    }

    fn skip(&mut self, size: u32) -> Result<()> {
        let mut left = size as usize;
        let mut buffer = [0; 4096];
        while left > 0 {
            let count = left.min(buffer.len());
            self.fill(&mut buffer[..count])?;
            left -= count;
        }
        Ok(())
    }
}

/// Writes an index from front to back.
pub(super) struct Writer {
    target: BufWriter<File>,
    sum: Sha1,
    version: u32,
    last: Vec<u8>,
}

impl Writer {
    pub(super) fn new(file: File, version: u32, count: usize) -> io::Result<Self> {
        let mut writer = Self {
            target: BufWriter::with_capacity(BUFFER, file),
            sum: Sha1::default(),
            version,
            last: Vec::new(),
        };
        let count = u32::try_from(count).map_err(io::Error::other)?;
        writer.write(MAGIC)?;
        writer.write(&version.to_be_bytes())?;
        writer.write(&count.to_be_bytes())?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.target.write_all(bytes)
    }

    /// Writes an entry; none is one that is left out.
    pub(super) fn put(&mut self, entry: Option<&Entry>) -> io::Result<()> {
        let Some(entry) = entry else { return Ok(()) };
        let len = u16::try_from(entry.path.len()).unwrap_or(NAME_MASK);
        let flags = entry.flags & !NAME_MASK | len.min(NAME_MASK);
        self.write(&entry.stat)?;
        self.write(&entry.oid)?;
        self.write(&flags.to_be_bytes())?;
        let mut head = STAT + 22;
        if flags & EXTENDED != 0 {
            self.write(&entry.extended.to_be_bytes())?;
            head += 2;
        }
        if self.version == 4 {
            let shared = self.last.iter().zip(&entry.path);
            let shared = shared.take_while(|(one, other)| one == other).count();
            let strip = varint(self.last.len() - shared);
            self.write(&strip)?;
            self.write(&entry.path[shared..])?;
            self.write(&[0])?;
            self.last.clone_from(&entry.path);
            return Ok(());
        }
        self.write(&entry.path)?;
        let end = (head + entry.path.len() + 8) & !7;
        self.write(&[0; 8][..end - head - entry.path.len()])
    }

    /// Writes the extensions and the sum; what a tree cache says above `touched` paths is void.
    pub(super) fn finish(mut self, kept: &[Extension], touched: &[Vec<u8>]) -> io::Result<()> {
        for (name, data) in kept {
            let data = match name {
                b"TREE" => without(data, touched),
                _ => Some(data.clone()),
            };
            let Some(data) = data else { continue };
            let size = u32::try_from(data.len()).map_err(io::Error::other)?;
            self.write(name)?;
            self.write(&size.to_be_bytes())?;
            self.write(&data)?;
        }
        let sum = self.sum.clone().finish();
        self.target.write_all(&sum)?;
        self.target.flush()
    }
}

/// A number as version 4 writes it: seven bits a byte, the first the highest.
fn varint(mut value: usize) -> Vec<u8> {
    let mut out = vec![low(value)];
    value >>= 7;
    while value > 0 {
        value -= 1;
        out.push(128 | low(value));
        value >>= 7;
    }
    out.reverse();
    out
}

fn low(value: usize) -> u8 {
    u8::try_from(value & 127).unwrap_or(0)
}

/// Returns a tree cache in which every directory above a touched path is void; none where it cannot be read.
fn without(data: &[u8], touched: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut void = BTreeSet::from([Vec::new()]);
    for path in touched {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        void.extend(slashes.map(|(at, _)| path[..at].to_vec()));
    }
    let mut out = Vec::with_capacity(data.len());
    let mut rest = data;
    // The directories that are open, and how many more each has beneath it.
    let mut open: Vec<(Vec<u8>, usize)> = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|&byte| byte == 0)?;
        let (name, after) = (&rest[..end], &rest[end + 1..]);
        let line = after.iter().position(|&byte| byte == b'\n')?;
        let text = std::str::from_utf8(&after[..line]).ok()?;
        let (count, beneath) = text.split_once(' ')?;
        let (count, beneath) = (count.parse::<i64>().ok()?, beneath.parse().ok()?);
        let size = if count < 0 { 0 } else { 20 };
        let oid = after.get(line + 1..line + 1 + size)?;
        rest = &after[line + 1 + size..];
        while open.last().is_some_and(|(_, left)| *left == 0) {
            open.pop();
        }
        let path = match open.last_mut() {
            None => name.to_vec(),
            Some((above, left)) => {
                *left -= 1;
                if above.is_empty() {
                    name.to_vec()
                } else {
                    [above.as_slice(), b"/", name].concat()
                }
            }
        };
        out.extend_from_slice(&[name, b"\0"].concat());
        if void.contains(&path) {
            out.extend_from_slice(format!("-1 {beneath}\n").as_bytes());
        } else {
            out.extend_from_slice(format!("{count} {beneath}\n").as_bytes());
            out.extend_from_slice(oid);
        }
        open.push((path, beneath));
    }
    Some(out)
}

#[cfg(test)]
mod tests;

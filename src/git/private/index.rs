//! The prepared index: what makes the first `git status` as quick as any other.
//!
//! Owns: git's index format, version 4, of a base tree: entries without stat data,
//! the cache tree, an FSMN extension that calls every entry clean until the fsmonitor
//! says otherwise, and an untracked cache that knows every directory of the base.
//! The parts that depend on the tree alone are kept in a template (`template`); only the
//! place of the mount and the checksum are put in for each session. An index that is there
//! already is never replaced, only told its new place.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

use tempfile::NamedTempFile;

use crate::domain::base::Base as _;
use crate::domain::base::BaseEntry;
use crate::domain::base::BaseKind;
use crate::domain::base::Oid;
use crate::domain::path::RepoPath;
use crate::git::base::GitBase;

use super::PrivateError;
use super::failed;
use super::sha1::sha1;
use super::template::Template;

/// `DIR_SHOW_OTHER_DIRECTORIES | DIR_HIDE_EMPTY_DIRECTORIES`: a plain `git status`.
const DIR_FLAGS: u32 = 6;
const STAT_LEN: usize = 36;
/// Up to the flags, which end in the length of the name.
const ENTRY_HEAD_LEN: usize = 62;
const NAME_LEN_MAX: usize = 0xfff;
const CHECKSUM_LEN: usize = 20;

/// Writes `index` into the private git directory `dir`, unless there is one.
/// `templates` is a directory of the store; `worktree` is the mount's place as the
/// agent sees it; `exclude` is the text of `info/exclude`.
pub fn prepare_index(
    dir: &Path,
    base: &GitBase,
    templates: &Path,
    worktree: &Path,
    exclude: &[u8],
) -> Result<(), PrivateError> {
    let path = dir.join("index");
    if fs::symlink_metadata(&path).is_ok() {
        return Ok(());
    }
    let mut template = template(base, templates, exclude)?;
    let error = failed(&path);
    // Beside the git directory, where no agent can put anything.
    let place = dir.parent().unwrap_or(dir);
    let mut file = NamedTempFile::new_in(place).map_err(&error)?;
    (template.place(worktree, file.as_file_mut())).map_err(&error)?;
    match file.persist_noclobber(&path) {
        Err(failure) if failure.error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error(failure.error))
        }
        _ => Ok(()),
    }
}

fn template(base: &GitBase, templates: &Path, exclude: &[u8]) -> Result<Template, PrivateError> {
    let key = format!("{} {:?} {}", base.root(), base.eol(), blob_id(exclude));
    let path: PathBuf = templates.join(format!("{}.index", blob_id(key.as_bytes())));
    if let Some(found) = Template::open(&path) {
        return Ok(found);
    }
    let built = build(base, exclude).map_err(|source| PrivateError::Base { source })?;
    // It only saves the next session the work, so a full disk does not stop this one.
    if let Err(error) = built.keep(&path) {
        tracing::warn!(%error, path = %path.display(), "an index template was not kept");
    }
    Ok(built)
}

/// Returns the id of `bytes` as a blob.
fn blob_id(bytes: &[u8]) -> Oid {
    let head = format!("blob {}\0", bytes.len());
    Oid(sha1(&[head.as_bytes(), bytes].concat()))
}

fn build(base: &GitBase, exclude: &[u8]) -> io::Result<Template> {
    let mut builder = Builder::new(base);
    let known = builder.tree(&RepoPath::root(), &base.root())?;
    let mut front = b"DIRC".to_vec();
    front.extend_from_slice(&4_u32.to_be_bytes());
    front.extend_from_slice(&builder.count.to_be_bytes());
    front.extend_from_slice(&builder.entries);
    extension(&mut front, *b"TREE", &builder.cache_tree);
    extension(&mut front, *b"FSMN", &fsmonitor_payload());
    Ok(Template::new(front, known.to_untracked(exclude)))
}

/// Version 2, a token that means nothing as the list is always whole, no dirty entry.
fn fsmonitor_payload() -> Vec<u8> {
    let bitmap = bitmap(&[]);
    let mut out = 2_u32.to_be_bytes().to_vec();
    out.extend_from_slice(b"govfs\0");
    out.extend_from_slice(&len_u32(bitmap.len()).to_be_bytes());
    out.extend_from_slice(&bitmap);
    out
}

struct Builder<'a> {
    base: &'a GitBase,
    count: u32,
    entries: Vec<u8>,
    previous: Vec<u8>,
    cache_tree: Vec<u8>,
}

/// What the untracked cache knows of a directory and those beneath it.
#[derive(Default)]
struct Known {
    /// One block a directory, parents first, siblings by name.
    blocks: Vec<u8>,
    /// For each block, the hash of the directory's `.gitignore`.
    ignores: Vec<Option<Oid>>,
}

impl<'a> Builder<'a> {
    fn new(base: &'a GitBase) -> Self {
        Self {
            base,
            count: 0,
            entries: Vec::new(),
            previous: Vec::new(),
            cache_tree: Vec::new(),
        }
    }

    /// Adds everything beneath a directory.
    fn tree(&mut self, path: &RepoPath, oid: &Oid) -> io::Result<Known> {
        let list = self.base.list(oid)?;
        let mut dirs = Vec::new();
        for entry in list.iter().filter(|entry| entry.kind == BaseKind::Dir) {
            if !self.base.list(&entry.oid)?.is_empty() {
                dirs.push(entry);
            }
        }
        let mut known = self.block(path, &list, dirs.len())?;
        let mut beneath = Vec::new();
        // The cache tree's line goes before those of its children, but ends with a count.
        let line = self.cache_tree.len();
        let before = self.count;
        // Names of directories are compared as if they ended in a slash.
        let mut ordered: Vec<&BaseEntry> = list.iter().collect();
        ordered.sort_by_cached_key(|entry| {
            let slash: &[u8] = if entry.kind == BaseKind::Dir {
                b"/"
            } else {
                b""
            };
            [&entry.name, slash].concat()
        });
        for entry in ordered {
            let child = path.join(&entry.name).map_err(io::Error::other)?;
            match entry.kind {
                BaseKind::Dir if !dirs.contains(&entry) => {}
                BaseKind::Dir => beneath.push((&entry.name, self.tree(&child, &entry.oid)?)),
                BaseKind::File { exec: false } => self.entry(&child, 0o100_644, &entry.oid),
                BaseKind::File { exec: true } => self.entry(&child, 0o100_755, &entry.oid),
                BaseKind::Symlink => self.entry(&child, 0o120_000, &entry.oid),
                BaseKind::Submodule => self.entry(&child, 0o160_000, &entry.oid),
            }
        }
        let count = self.count - before;
        let mut head = path.name().to_vec();
        head.extend_from_slice(format!("\0{count} {}\n", dirs.len()).as_bytes());
        head.extend_from_slice(&oid.0);
        self.cache_tree.splice(line..line, head);
        // The untracked cache, though, is searched by plain names.
        beneath.sort_by_key(|(name, _)| *name);
        for (_, below) in beneath {
            known.blocks.extend_from_slice(&below.blocks);
            known.ignores.extend_from_slice(&below.ignores);
        }
        Ok(known)
    }

    fn entry(&mut self, path: &RepoPath, mode: u32, oid: &Oid) {
        let name = path.as_bytes();
        // Six words of times and places, then the mode; then owners and size.
        self.entries.extend_from_slice(&[0; 24]);
        self.entries.extend_from_slice(&mode.to_be_bytes());
        self.entries.extend_from_slice(&[0; 12]);
        self.entries.extend_from_slice(&oid.0);
        let len = u16::try_from(name.len().min(NAME_LEN_MAX)).unwrap_or_default();
        self.entries.extend_from_slice(&len.to_be_bytes());
        let same = name
            .iter()
            .zip(&self.previous)
            .take_while(|(a, b)| a == b)
            .count();
        self.entries
            .extend_from_slice(&varint(self.previous.len() - same));
        self.entries.extend_from_slice(&name[same..]);
        self.entries.push(0);
        self.previous.truncate(same);
        self.previous.extend_from_slice(&name[same..]);
        self.count += 1;
    }

    fn block(&self, path: &RepoPath, list: &[BaseEntry], dirs: usize) -> io::Result<Known> {
        let mut block = [varint(0), varint(dirs), path.name().to_vec()].concat();
        block.push(0);
        let is_ignore = |entry: &&BaseEntry| {
            entry.name == b".gitignore" && matches!(entry.kind, BaseKind::File { .. })
        };
        let hash = match list.iter().find(is_ignore) {
            Some(entry) => Some(self.ignore_hash(path, entry)?),
            None => None,
        };
        Ok(Known {
            blocks: block,
            ignores: vec![hash],
        })
    }

    /// Returns the hash by which git knows the file's content: the index's where
    /// nothing would be converted, else that of the bytes shown.
    fn ignore_hash(&self, dir: &RepoPath, entry: &BaseEntry) -> io::Result<Oid> {
        let path = dir.join(&entry.name).map_err(io::Error::other)?;
        if self.base.conversion(&path)?.stores_other_bytes() {
            return Ok(read_hash(&self.base.read(&path, entry)?));
        }
        Ok(entry.oid)
    }
}

impl Known {
    fn to_untracked(&self, exclude: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 2 * STAT_LEN];
        out.extend_from_slice(&DIR_FLAGS.to_be_bytes());
        out.extend_from_slice(&read_hash(exclude).0);
        // The configuration names /dev/null as the person's own list.
        out.extend_from_slice(&read_hash(b"").0);
        out.extend_from_slice(b".gitignore\0");
        let count = self.ignores.len();
        out.extend_from_slice(&varint(count));
        out.extend_from_slice(&self.blocks);
        let hashed: Vec<bool> = self.ignores.iter().map(Option::is_some).collect();
        out.extend_from_slice(&bitmap(&vec![true; count]));
        out.extend_from_slice(&bitmap(&[]));
        out.extend_from_slice(&bitmap(&hashed));
        out.resize(out.len() + count * STAT_LEN, 0);
        for hash in self.ignores.iter().flatten() {
            out.extend_from_slice(&hash.0);
        }
        out.push(0);
        out
    }
}

/// Returns the hash of a list of patterns that git read: with one more line end,
/// unless it is empty.
fn read_hash(text: &[u8]) -> Oid {
    if text.is_empty() {
        return blob_id(text);
    }
    blob_id(&[text, b"\n"].concat())
}

pub(super) fn extension(out: &mut Vec<u8>, name: [u8; 4], payload: &[u8]) {
    out.extend_from_slice(&name);
    out.extend_from_slice(&len_u32(payload.len()).to_be_bytes());
    out.extend_from_slice(payload);
}

/// An index of 4 GB is beyond what git can read.
fn len_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

pub(super) fn ident_field(worktree: &Path) -> Vec<u8> {
    let place = std::os::unix::ffi::OsStrExt::as_bytes(worktree.as_os_str());
    let ident = [b"Location ", place, b", system Linux\0"].concat();
    [varint(ident.len()), ident].concat()
}

/// Writes a number as git does: seven bits a byte, each prefix minus one.
fn varint(mut value: usize) -> Vec<u8> {
    let low = |value: usize| u8::try_from(value & 0x7f).unwrap_or_default();
    let mut out = vec![low(value)];
    value >>= 7;
    while value > 0 {
        value -= 1;
        out.push(0x80 | low(value));
        value >>= 7;
    }
    out.reverse();
    out
}

fn read_varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (mut byte, mut rest) = bytes.split_first()?;
    let mut value = usize::from(byte & 0x7f);
    while byte & 0x80 != 0 {
        (byte, rest) = rest.split_first()?;
        value = value.checked_add(1)?.checked_mul(128)? + usize::from(byte & 0x7f);
    }
    Some((value, rest))
}

/// Writes an EWAH bitmap as one run of literal words.
fn bitmap(bits: &[bool]) -> Vec<u8> {
    let words: Vec<u64> = bits
        .chunks(64)
        .map(|chunk| {
            let set = chunk.iter().enumerate().filter(|(_, bit)| **bit);
            set.fold(0, |word, (at, _)| word | 1 << at)
        })
        .collect();
    let mut out = len_u32(bits.len()).to_be_bytes().to_vec();
    out.extend_from_slice(&len_u32(words.len() + 1).to_be_bytes());
    // No run of equal words, then so many literal ones.
    out.extend_from_slice(&((words.len() as u64) << 33).to_be_bytes());
    for word in words {
        out.extend_from_slice(&word.to_be_bytes());
    }
    // Where the last run's word stands.
    out.extend_from_slice(&0_u32.to_be_bytes());
    out
}

/// Tells an index that the mount stands at `worktree` now; at any other place git
/// would throw its untracked cache away.
pub fn relocate_index(dir: &Path, worktree: &Path) -> Result<(), PrivateError> {
    let path = dir.join("index");
    let error = failed(&path);
    match fs::symlink_metadata(&path) {
        Ok(data) if data.is_file() => {}
        _ => return Ok(()),
    }
    let bytes = fs::read(&path).map_err(&error)?;
    let Cow::Owned(moved) = relocated(&bytes, worktree).ok_or(PrivateError::Index)? else {
        return Ok(());
    };
    let place = dir.parent().unwrap_or(dir);
    let mut file = NamedTempFile::new_in(place).map_err(&error)?;
    file.write_all(&moved).map_err(&error)?;
    file.persist(&path)
        .map_err(|failure| error(failure.error))?;
    Ok(())
}

/// Returns the index with the new place, borrowed if it need not change; nothing
/// if it is not an index.
fn relocated<'a>(bytes: &'a [u8], worktree: &Path) -> Option<Cow<'a, [u8]>> {
    let end = bytes.len().checked_sub(CHECKSUM_LEN)?;
    let mut at = extensions_start(bytes)?;
    while at < end {
        let name = bytes.get(at..at + 4)?;
        let len = u32::from_be_bytes(bytes.get(at + 4..at + 8)?.try_into().ok()?);
        let payload = bytes.get(at + 8..)?.get(..usize::try_from(len).ok()?)?;
        if name != b"UNTR" {
            at += 8 + payload.len();
            continue;
        }
        let (ident_len, rest) = read_varint(payload)?;
        let tail = rest.get(ident_len..)?;
        let fresh = [ident_field(worktree).as_slice(), tail].concat();
        if fresh == payload {
            break;
        }
        let mut out = bytes[..at].to_vec();
        extension(&mut out, *b"UNTR", &fresh);
        out.extend_from_slice(bytes.get(at + 8 + payload.len()..end)?);
        // Git may have been told to leave the checksum out.
        let skipped = bytes[end..].iter().all(|&b| b == 0);
        let sum = if skipped {
            [0; CHECKSUM_LEN]
        } else {
            sha1(&out)
        };
        out.extend_from_slice(&sum);
        return Some(Cow::Owned(out));
    }
    Some(Cow::Borrowed(bytes))
}

/// Finds the end of the entries.
fn extensions_start(bytes: &[u8]) -> Option<usize> {
    let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let version = word(4)?;
    if !bytes.starts_with(b"DIRC") || !(2..=4).contains(&version) {
        return None;
    }
    let mut at = 12;
    for _ in 0..word(8)? {
        let start = at;
        let flags = *bytes.get(at + ENTRY_HEAD_LEN - 2)?;
        let extended = version >= 3 && flags & 0x40 != 0;
        at += ENTRY_HEAD_LEN + if extended { 2 } else { 0 };
        if version == 4 {
            let rest = bytes.get(at..)?;
            at += rest.len() - read_varint(rest)?.1.len();
        }
        at += bytes.get(at..)?.iter().position(|&b| b == 0)? + 1;
        if version < 4 {
            // One to eight NULs, up to a multiple of eight.
            at = start + (at - start).next_multiple_of(8);
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests;

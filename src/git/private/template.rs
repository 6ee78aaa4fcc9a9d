//! Index templates: what of a prepared index does not depend on the mount's place.
//!
//! Owns: the file that keeps one, and placing it: the front is copied by the kernel,
//! the sum goes on from where the front ends, so that only the untracked cache is
//! hashed. A file that is not whole is no template. Never reads a base.

use std::fs::File;
use std::io;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::SeekFrom;
use std::io::Write as _;
use std::path::Path;

use tempfile::NamedTempFile;

use super::index::extension;
use super::index::ident_field;
use super::sha1::Sha1;

const MAGIC: &[u8; 8] = b"govfsix2";
/// The magic, two lengths, and the sum so far.
const HEAD_LEN: usize = 8 + 8 + 8 + Sha1::HELD_LEN;

/// What does not depend on the mount's place.
pub(super) struct Template {
    /// The header, the entries, TREE and FSMN.
    front: Front,
    /// The sum of the front.
    sum: Sha1,
    /// UNTR's payload after its ident.
    untracked: Vec<u8>,
}

enum Front {
    Built(Vec<u8>),
    /// So many bytes at the end of a file.
    Kept(File, u64),
}

impl Template {
    pub(super) fn new(front: Vec<u8>, untracked: Vec<u8>) -> Self {
        let mut sum = Sha1::default();
        sum.update(&front);
        let front = Front::Built(front);
        Self {
            front,
            sum,
            untracked,
        }
    }

    /// Writes the index for a mount at `worktree`.
    pub(super) fn place(&mut self, worktree: &Path, out: &mut File) -> io::Result<()> {
        match &mut self.front {
            Front::Built(bytes) => out.write_all(bytes)?,
            Front::Kept(file, len) => {
                file.seek(SeekFrom::End(-i64::try_from(*len).unwrap_or(0)))?;
                if io::copy(&mut file.take(*len), out)? != *len {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        let mut payload = ident_field(worktree);
        payload.extend_from_slice(&self.untracked);
        let mut tail = Vec::with_capacity(payload.len() + 32);
        extension(&mut tail, *b"UNTR", &payload);
        let mut sum = self.sum.clone();
        sum.update(&tail);
        tail.extend_from_slice(&sum.finish());
        out.write_all(&tail)
    }

    /// Opens a kept template; nothing where there is none, or not a whole one.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let mut file = File::open(path).ok()?;
        let mut head = [0; HEAD_LEN];
        file.read_exact(&mut head).ok()?;
        let (front, rest) = head.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
        let (untracked, held) = rest.split_first_chunk::<8>()?;
        let (front, untracked) = (u64::from_be_bytes(*front), u64::from_be_bytes(*untracked));
        let whole = (HEAD_LEN as u64)
            .checked_add(untracked)?
            .checked_add(front)?;
        if file.metadata().ok()?.len() != whole {
            return None;
        }
        let sum = Sha1::resume(held.try_into().ok()?, front);
        let mut bytes = vec![0; usize::try_from(untracked).ok()?];
        file.read_exact(&mut bytes).ok()?;
        Some(Self {
            front: Front::Kept(file, front),
            sum,
            untracked: bytes,
        })
    }

    /// Keeps a template that was built just now at `path`.
    pub(super) fn keep(&self, path: &Path) -> io::Result<()> {
        let Front::Built(front) = &self.front else {
            return Ok(());
        };
        let dir = path.parent().unwrap_or(path);
        std::fs::create_dir_all(dir)?;
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&(front.len() as u64).to_be_bytes());
        head.extend_from_slice(&(self.untracked.len() as u64).to_be_bytes());
        head.extend_from_slice(&self.sum.held());
        let mut file = NamedTempFile::new_in(dir)?;
        for part in [&head, &self.untracked, front] {
            file.write_all(part)?;
        }
        file.persist(path)?;
        Ok(())
    }
}

//! Copies of checkpoints that survive the repository.

use std::fs::{File, OpenOptions};
use std::io;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::domain::checkpoint::{Note, Origin};
use crate::store::keys::{KeyError, io_error, make_private_dir};

/// The file of one origin's checkpoints.
#[derive(Clone, Debug)]
pub struct Copies {
    dir: PathBuf,
    path: PathBuf,
}

/// One piece of that file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    Note(Note),
    /// Bytes that are no checkpoint: torn by a crash, or tampered with.
    Damaged(Vec<u8>),
}

impl Copies {
    /// `state` is [`super::state_dir`].
    pub fn of(state: &Path, origin: &Origin) -> Self {
        let dir = state.join("checkpoints");
        let path = dir.join(origin.as_str());
        Self { dir, path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one signed checkpoint, durably.
    pub fn append(&self, note: &str) -> Result<(), KeyError> {
        make_private_dir(&self.dir)?;
        let appended = (|| {
            let mut file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&self.path)?;
            file.lock()?;
            let seam = if ends_clean(&mut file)? { "" } else { "\n\n" };
            file.write_all(format!("{seam}{note}\n").as_bytes())?;
            file.sync_all()?;
            File::open(&self.dir)?.sync_all()
        })();
        appended.map_err(|source| io_error(&self.path, source))
    }

    /// Returns everything in the file, oldest first.
    pub fn all(&self) -> Result<Vec<Kept>, KeyError> {
        let mut bytes = Vec::new();
        match File::open(&self.path).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(io_error(&self.path, source)),
            Ok(_) => {}
        }
        Ok(split(&bytes))
    }
}

/// Says whether a new checkpoint can follow: at the start, or after an empty line.
fn ends_clean(file: &mut File) -> io::Result<bool> {
    let len = file.seek(SeekFrom::End(0))?;
    if len < 2 {
        return Ok(len == 0);
    }
    file.seek(SeekFrom::End(-2))?;
    let mut tail = [0; 2];
    file.read_exact(&mut tail)?;
    Ok(tail == *b"\n\n")
}

/// Cuts the file at its empty lines; a checkpoint is two pieces with one between.
fn split(bytes: &[u8]) -> Vec<Kept> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(b"\n") {
            rest = after; // the seam after a torn piece
            continue;
        }
        let end = piece_end(rest);
        let two = end + piece_end(&rest[end..]);
        // The last newline is the empty line that follows the checkpoint.
        let whole = rest[..two].strip_suffix(b"\n").map(Note::parse);
        if let Some(Ok(note)) = whole {
            pieces.push(Kept::Note(note));
            rest = &rest[two..];
        } else {
            pieces.push(Kept::Damaged(rest[..end].to_vec()));
            rest = &rest[end..];
        }
    }
    pieces
}

/// Returns where the piece ends: after its empty line.
fn piece_end(bytes: &[u8]) -> usize {
    let gap = bytes.windows(2).position(|pair| pair == b"\n\n");
    gap.map_or(bytes.len(), |at| at + 2)
}

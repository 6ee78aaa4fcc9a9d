//! The content behind Git LFS pointers.
//!
//! Owns: when a file shows its content and when its pointer. The answer for an
//! object is fixed when it is first asked for, so that a size and the bytes read
//! later belong together; content that then fails to come is an error, never a
//! pointer of another length. Content is checked against the pointer's SHA-256.

use std::collections::HashMap;
use std::io;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::convert::LfsPointer;
use crate::domain::convert::lfs_pointer;
use crate::domain::digest::Digest;
use crate::domain::path::RepoPath;

/// How many answers are remembered before the memory starts anew.
const ANSWERS_MAX: usize = 65_536;

/// Finds the content of LFS objects, outside any agent's reach.
pub trait Smudge: Send + Sync {
    /// Says whether the content can be had; may fetch it.
    fn available(&self, path: &RepoPath, pointer: &LfsPointer) -> bool;

    /// Returns the content.
    fn content(&self, path: &RepoPath, pointer: &LfsPointer) -> io::Result<Vec<u8>>;
}

pub(super) struct LfsContents {
    smudge: Option<Arc<dyn Smudge>>,
    answers: Mutex<HashMap<Digest, bool>>,
}

impl std::fmt::Debug for LfsContents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LfsContents({})", self.smudge.is_some())
    }
}

impl LfsContents {
    pub(super) fn new(smudge: Option<Arc<dyn Smudge>>) -> Self {
        Self {
            smudge,
            answers: Mutex::default(),
        }
    }

    /// Returns the size of the file whose pointer text is `text`.
    pub(super) fn size(&self, path: &RepoPath, text: &[u8]) -> u64 {
        match self.pointer(path, text) {
            Some((_, pointer)) => pointer.size,
            None => text.len() as u64,
        }
    }

    /// Returns the content, or `text` where the pointer is shown.
    pub(super) fn read(&self, path: &RepoPath, text: Vec<u8>) -> io::Result<Vec<u8>> {
        let Some((smudge, pointer)) = self.pointer(path, &text) else {
            return Ok(text);
        };
        let content = smudge.content(path, &pointer)?;
        if content.len() as u64 != pointer.size || Digest::of(&content) != pointer.sha256 {
            let sha256 = pointer.sha256;
            return Err(io::Error::other(format!(
                "the LFS content of {path} is not {sha256}"
            )));
        }
        Ok(content)
    }

    fn pointer(&self, path: &RepoPath, text: &[u8]) -> Option<(&dyn Smudge, LfsPointer)> {
        let smudge = self.smudge.as_deref()?;
        let pointer = LfsPointer::parse(text)?;
        if let Some(answer) = self.answers.lock().get(&pointer.sha256) {
            return answer.then_some((smudge, pointer));
        }
        let answer = smudge.available(path, &pointer);
        let mut answers = self.answers.lock();
        if answers.len() >= ANSWERS_MAX {
            answers.clear();
        }
        answers.insert(pointer.sha256, answer);
        answer.then_some((smudge, pointer))
    }
}

/// Lets `git-lfs` find content: from its store in the repository, else from its remote.
#[derive(Debug)]
pub struct LfsProgram {
    git_lfs: PathBuf,
    common_dir: PathBuf,
}

impl LfsProgram {
    /// Uses the program at the absolute path `git_lfs`.
    pub fn new(git_lfs: PathBuf, common_dir: PathBuf) -> Self {
        Self {
            git_lfs,
            common_dir,
        }
    }

    /// Returns where LFS keeps the object, unless it is configured to keep it elsewhere.
    fn stored(&self, pointer: &LfsPointer) -> PathBuf {
        let hex = pointer.sha256.hex();
        let objects = self.common_dir.join("lfs").join("objects");
        objects.join(&hex[..2]).join(&hex[2..4]).join(&hex)
    }

    fn is_stored(&self, pointer: &LfsPointer) -> bool {
        let metadata = self.stored(pointer).metadata();
        metadata.is_ok_and(|data| data.is_file() && data.len() == pointer.size)
    }

    fn run(&self, path: &RepoPath, pointer: &LfsPointer) -> io::Result<Vec<u8>> {
        let mut child = Command::new(&self.git_lfs)
            .arg("smudge")
            .arg("--")
            .arg(path.encode())
            .env("GIT_DIR", &self.common_dir)
            .env("GIT_TERMINAL_PROMPT", "0")
            .current_dir(&self.common_dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        // A pointer is smaller than any pipe, so this never waits for the reader.
        let sent = child.stdin.take().map_or(Ok(()), |mut stdin| {
            stdin.write_all(lfs_pointer(&pointer.sha256, pointer.size).as_bytes())
        });
        let output = child.wait_with_output()?;
        sent?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(io::Error::other(format!(
            "git-lfs has no content for {path}: {}",
            output.status
        )))
    }
}

impl Smudge for LfsProgram {
    fn available(&self, path: &RepoPath, pointer: &LfsPointer) -> bool {
        // Where it cannot download, the program prints the pointer and may still succeed.
        self.is_stored(pointer)
            || self
                .run(path, pointer)
                .is_ok_and(|content| content.len() as u64 == pointer.size)
    }

    fn content(&self, path: &RepoPath, pointer: &LfsPointer) -> io::Result<Vec<u8>> {
        if self.is_stored(pointer) {
            return std::fs::read(self.stored(pointer));
        }
        self.run(path, pointer)
    }
}

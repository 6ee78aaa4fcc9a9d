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
    /// The first file that shows its pointer.
    bare: Mutex<Option<RepoPath>>,
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
            bare: Mutex::default(),
        }
    }

    /// Returns the first file, if any, that shows its pointer.
    pub(super) fn first_bare(&self) -> Option<RepoPath> {
        self.bare.lock().clone()
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
        let pointer = LfsPointer::parse(text)?;
        let smudge = self.smudge.as_deref();
        let smudge = smudge.filter(|smudge| self.answer(*smudge, path, &pointer));
        if smudge.is_none() {
            let mut bare = self.bare.lock();
            if bare.is_none() {
                tracing::warn!(%path, "git-lfs has no content for it, or is not there: the pointer file is shown");
                *bare = Some(path.clone());
            }
        }
        Some((smudge?, pointer))
    }

    fn answer(&self, smudge: &dyn Smudge, path: &RepoPath, pointer: &LfsPointer) -> bool {
        if let Some(answer) = self.answers.lock().get(&pointer.sha256) {
            return *answer;
        }
        let fresh = smudge.available(path, pointer);
        let mut answers = self.answers.lock();
        if answers.len() >= ANSWERS_MAX {
            answers.clear();
        }
        // Of two threads that asked at once, the first one's answer holds.
        *answers.entry(pointer.sha256).or_insert(fresh)
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

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use crate::domain::base::Base as _;
    use crate::git::base::GitBase;
    use crate::git::base::Options;
    use crate::git::base::tests::Repo;
    use crate::git::base::tests::path;

    /// Returns a repository with a pointer to `content`, at `big.bin`.
    fn repository(content: &[u8]) -> Repo {
        let repo = Repo::new();
        repo.write(".gitattributes", "*.bin filter=lfs -text\n");
        repo.write(
            "big.bin",
            lfs_pointer(&Digest::of(content), content.len() as u64),
        );
        repo.write("odd.bin", "no pointer\n");
        repo.commit();
        repo
    }

    fn base(repo: &Repo, program: PathBuf) -> GitBase {
        let options = Options {
            smudge: Some(Arc::new(LfsProgram::new(program, repo.common()))),
            ..Options::default()
        };
        GitBase::open(&repo.common(), repo.head(), options).expect("base")
    }

    fn shown(base: &GitBase, name: &str) -> io::Result<Vec<u8>> {
        let entry = base.find(&path(name))?.expect("an entry");
        let size = base.size(&path(name), &entry)?;
        let bytes = base.read(&path(name), &entry)?;
        assert_eq!(size, bytes.len() as u64);
        Ok(bytes)
    }

    fn program(dir: &TempDir, script: &str) -> PathBuf {
        let path = dir.path().join("git-lfs");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        path
    }

    #[test]
    fn without_the_program_the_pointer_is_shown() {
        let repo = repository(b"content");
        let base = base(&repo, "/nonexistent/git-lfs".into());
        assert_eq!(base.first_bare_pointer(), None);
        let text = shown(&base, "big.bin").expect("shown");
        assert!(text.starts_with(b"version https://git-lfs"));
        assert_eq!(base.first_bare_pointer(), Some(path("big.bin")));
        assert_eq!(shown(&base, "odd.bin").expect("shown"), b"no pointer\n");
    }

    #[test]
    fn content_comes_from_the_program_or_from_the_store() {
        let repo = repository(b"content");
        let dir = TempDir::new().expect("tempdir");
        let honest = program(&dir, "cat >/dev/null; printf content");
        assert_eq!(
            shown(&base(&repo, honest), "big.bin").expect("shown"),
            b"content"
        );
        let pointer = LfsPointer {
            sha256: Digest::of(b"content"),
            size: 7,
        };
        let stored = LfsProgram::new(PathBuf::new(), repo.common()).stored(&pointer);
        fs::create_dir_all(stored.parent().expect("parent")).expect("mkdir");
        fs::write(&stored, "content").expect("write");
        let base = base(&repo, "/nonexistent/git-lfs".into());
        assert_eq!(shown(&base, "big.bin").expect("shown"), b"content");
        assert_eq!(base.first_bare_pointer(), None);
        // Content that is not what the pointer says is an error, not shown.
        fs::write(&stored, "CONTENT").expect("write");
        let error = shown(&base, "big.bin").expect_err("altered");
        assert!(error.to_string().contains("big.bin"), "{error}");
    }
}

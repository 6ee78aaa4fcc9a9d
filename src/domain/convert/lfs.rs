//! Git LFS pointers.
//!
//! Owns: the pointer's text (version line, then keys in alphabetical order) and what
//! LFS's clean filter makes of content. Never talks to LFS's store.

use std::fmt::Write as _;

use crate::domain::digest::Digest;

/// A longer file is content, not a pointer.
const POINTER_MAX: usize = 1024;
const VERSIONS: [&str; 2] = [
    "https://git-lfs.github.com/spec/v1",
    "https://hawser.github.com/spec/v1",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LfsPointer {
    pub sha256: Digest,
    pub size: u64,
}

impl LfsPointer {
    /// Reads a pointer file; anything else is content.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() >= POINTER_MAX {
            return None;
        }
        let text = std::str::from_utf8(bytes).ok()?.trim();
        let mut lines = text.lines();
        let version = lines.next()?.strip_prefix("version ")?;
        if !VERSIONS.contains(&version) {
            return None;
        }
        let (mut sha256, mut size) = (None, None);
        for line in lines {
            let (key, value) = line.split_once(' ')?;
            match key {
                "oid" => sha256 = value.strip_prefix("sha256:")?.parse().ok(),
                "size" => size = value.parse().ok(),
                _ if key.starts_with("ext-") => {}
                _ => return None,
            }
        }
        Some(Self {
            sha256: sha256?,
            size: size?,
        })
    }
}

/// Returns the pointer for content with that digest and size.
pub fn lfs_pointer(sha256: &Digest, size: u64) -> String {
    let mut text = String::with_capacity(140);
    let _ = write!(
        text,
        "version {}\noid sha256:{sha256}\nsize {size}\n",
        VERSIONS[0]
    );
    text
}

/// Returns the pointer for content; a pointer, and nothing at all, stay as they are.
pub(super) fn clean(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.is_empty() || LfsPointer::parse(bytes).is_some() {
        return None;
    }
    Some(lfs_pointer(&Digest::of(bytes), bytes.len() as u64).into_bytes())
}

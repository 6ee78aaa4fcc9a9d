//! Paths inside the repository, and single names.
//!
//! Owns: what a repository path is (bytes, relative, `/`-separated, never a
//! `.` or `..`), its percent-encoded form in the ledger and in JSON, and which
//! names are `.git` in disguise. Past the edge no `String` or `PathBuf` stands
//! for a repository path. Never touches a file system.

use std::borrow::Borrow;
use std::fmt;
use std::fmt::Write as _;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest path govfs handles; a longer one is ENAMETOOLONG before any entry.
pub const PATH_MAX: usize = 4096;
/// The longest single name, as on every Linux file system.
pub const NAME_MAX: usize = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("the path is empty")]
    Empty,
    #[error("the path is absolute; give it relative to the repository's root")]
    Absolute,
    #[error("the path has a `.` or `..` component")]
    Dots,
    #[error("the path has an empty component (`//` or a trailing `/`)")]
    EmptyComponent,
    #[error("the path contains a NUL byte")]
    Nul,
    #[error("the path is longer than {PATH_MAX} bytes")]
    TooLong,
    #[error("a component of the path is longer than {NAME_MAX} bytes")]
    NameTooLong,
    #[error("not a percent-encoded path")]
    Encoding,
}

/// A path relative to the repository's root; the root itself is the empty path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RepoPath(Vec<u8>);

impl RepoPath {
    /// Returns the repository's root.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Parses a non-empty path.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.is_empty() {
            return Err(PathError::Empty);
        }
        if bytes[0] == b'/' {
            return Err(PathError::Absolute);
        }
        if bytes.len() > PATH_MAX {
            return Err(PathError::TooLong);
        }
        for part in bytes.split(|&b| b == b'/') {
            check_name(part)?;
        }
        Ok(Self(bytes.to_vec()))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the child `name` of this directory.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        check_name(name)?;
        let gap = usize::from(!self.is_root());
        if self.0.len() + gap + name.len() > PATH_MAX {
            return Err(PathError::TooLong);
        }
        let mut bytes = Vec::with_capacity(self.0.len() + gap + name.len());
        bytes.extend_from_slice(&self.0);
        if gap == 1 {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Ok(Self(bytes))
    }

    /// Returns the directory that holds this path; the root has none.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let cut = self.0.iter().rposition(|&b| b == b'/').unwrap_or(0);
        Some(Self(self.0[..cut].to_vec()))
    }

    /// Returns the last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        match self.0.iter().rposition(|&b| b == b'/') {
            Some(cut) => &self.0[cut + 1..],
            None => &self.0,
        }
    }

    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|part| !part.is_empty())
    }

    /// Returns every proper ancestor but the root, nearest last.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + '_ {
        (0..self.0.len())
            .filter(|&at| self.0[at] == b'/')
            .map(|at| Self(self.0[..at].to_vec()))
    }

    /// Says whether this path is `base` or lies beneath it, by whole components.
    pub fn starts_with(&self, base: &Self) -> bool {
        base.is_root()
            || (self.0.starts_with(&base.0)
                && (self.0.len() == base.0.len() || self.0[base.0.len()] == b'/'))
    }

    /// Returns this path with its leading `from` replaced by `to`.
    pub fn rebase(&self, from: &Self, to: &Self) -> Option<Self> {
        if !self.starts_with(from) {
            return None;
        }
        let rest = &self.0[from.0.len()..];
        let rest = rest.strip_prefix(b"/").unwrap_or(rest);
        let mut bytes = to.0.clone();
        if !rest.is_empty() && !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(rest);
        Some(Self(bytes))
    }

    /// Returns the form that stands in the ledger, in JSON and on screens.
    pub fn encode(&self) -> String {
        percent_encode(&self.0)
    }

    /// Reads what [`RepoPath::encode`] wrote; the empty string is the root.
    pub fn decode(text: &str) -> Result<Self, PathError> {
        let bytes = percent_decode(text).ok_or(PathError::Encoding)?;
        if bytes.is_empty() {
            return Ok(Self::root());
        }
        Self::parse(&bytes)
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.encode())
    }
}

impl fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.encode())
    }
}

impl Borrow<[u8]> for RepoPath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for RepoPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.encode())
    }
}

impl<'de> Deserialize<'de> for RepoPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::decode(&text).map_err(serde::de::Error::custom)
    }
}

/// Checks one component.
pub fn check_name(name: &[u8]) -> Result<(), PathError> {
    match name {
        b"" => Err(PathError::EmptyComponent),
        b"." | b".." => Err(PathError::Dots),
        _ if name.len() > NAME_MAX => Err(PathError::NameTooLong),
        _ if name.contains(&0) => Err(PathError::Nul),
        _ if name.contains(&b'/') => Err(PathError::EmptyComponent),
        _ => Ok(()),
    }
}

const fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.' | b'_' | b'~' | b'/' | b'@' | b'+' | b',' | b'=' | b':'
        )
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Appends `bytes` percent-encoded: every byte outside `A-Za-z0-9-._~/@+,=:` as `%XX`.
pub fn percent_encode_into(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len());
    for &byte in bytes {
        if plain(byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&[
                b'%',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]);
        }
    }
}

pub fn percent_encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Reads a percent-encoded text; only the one canonical spelling is accepted.
pub fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let value = hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?;
            if plain(value) {
                return None;
            }
            out.push(value);
        } else if plain(byte) {
            out.push(byte);
        } else {
            return None;
        }
    }
    Some(out)
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Says whether some system takes `name` for `.git`: by case, by code points
/// that HFS+ ignores, as an NTFS short name, with trailing dots, spaces or a
/// stream suffix.
pub fn is_git_alias(name: &[u8]) -> bool {
    let visible = strip_ignorable(name);
    let stem = visible
        .split(|&b| b == b':' || b == b'\\')
        .next()
        .unwrap_or_default();
    let end = stem
        .iter()
        .rposition(|&b| b != b'.' && b != b' ')
        .map_or(0, |at| at + 1);
    let stem = stem[..end].to_ascii_lowercase();
    stem == b".git" || stem == b"git~1"
}

/// Drops the code points that HFS+ does not compare (git's `verify_path` list).
pub(crate) fn strip_ignorable(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some(&byte) = rest.first() {
        let skip = match rest {
            [0xE2, 0x80, 0x8C..=0x8F | 0xAA..=0xAE, ..]
            | [0xE2, 0x81, 0xAA..=0xAF, ..]
            | [0xEF, 0xBB, 0xBF, ..] => 3,
            _ => 0,
        };
        if skip == 0 {
            out.push(byte);
            rest = &rest[1..];
        } else {
            rest = &rest[skip..];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> RepoPath {
        RepoPath::parse(text.as_bytes()).expect(text)
    }

    #[test]
    fn only_relative_plain_paths_are_paths() {
        let long = vec![b'a'; PATH_MAX + 1];
        let cases: [(&[u8], PathError); 9] = [
            (b"", PathError::Empty),
            (b"/etc", PathError::Absolute),
            (b"a/../b", PathError::Dots),
            (b".", PathError::Dots),
            (b"a//b", PathError::EmptyComponent),
            (b"a/", PathError::EmptyComponent),
            (b"a\0b", PathError::Nul),
            (&[b'a'; 256], PathError::NameTooLong),
            (&long, PathError::TooLong),
        ];
        for (bytes, error) in cases {
            assert_eq!(RepoPath::parse(bytes), Err(error), "{bytes:?}");
        }
        assert!(RepoPath::parse(b"a b/\xff/\n").is_ok());
    }

    #[test]
    fn prefixes_compare_whole_components() {
        assert!(path("src/a").starts_with(&path("src")));
        assert!(!path("srcX").starts_with(&path("src")));
        assert!(path("src").starts_with(&RepoPath::root()));
        assert_eq!(
            path("a/b/c").rebase(&path("a/b"), &path("z")),
            Some(path("z/c"))
        );
        assert_eq!(
            path("a/b").rebase(&path("a/b"), &path("z")),
            Some(path("z"))
        );
        assert_eq!(path("a/bc").rebase(&path("a/b"), &path("z")), None);
        let parents: Vec<_> = path("a/b/c").ancestors().map(|p| p.encode()).collect();
        assert_eq!(parents, ["a", "a/b"]);
    }

    #[test]
    fn every_disguise_of_git_is_seen() {
        for name in [
            ".git",
            ".GIT",
            ".Git",
            "git~1",
            "GIT~1",
            ".git.",
            ".git ",
            ".git . .",
            ".g\u{200c}it",
            "\u{feff}.git",
            ".gi\u{206f}t",
            ".git::$INDEX_ALLOCATION",
            ".git\\hooks",
        ] {
            assert!(is_git_alias(name.as_bytes()), "{name:?}");
        }
        for name in [
            ".github",
            ".gitignore",
            "git",
            "git~2",
            ".gi",
            "x.git",
            ".gitmodules",
        ] {
            assert!(!is_git_alias(name.as_bytes()), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn encoding_is_a_bijection(bytes in proptest::collection::vec(1u8.., 1..40)) {
            let text = percent_encode(&bytes);
            prop_assert!(text.is_ascii());
            prop_assert_eq!(percent_decode(&text), Some(bytes.clone()));
            let mut fast = Vec::new();
            percent_encode_into(&bytes, &mut fast);
            prop_assert_eq!(fast, text.into_bytes());
        }
    }
}

//! Changes of files with both their sides, and how people read them.
//!
//! Owns: where the bytes of a side come from (the base as it is checked out, a
//! version checked against its hash, a blob of the repository) and the unified
//! form. Invariants: a version whose bytes are not what its name says is an
//! integrity fault that names the path; nothing above [`LARGEST`] is read into
//! memory. Never asks what is allowed.

use std::rc::Rc;

use crate::app::failure::Failure;
use crate::app::serve::ground;
use crate::app::session::Session;
use crate::app::site::Site;
use crate::domain::base::{Base, Oid};
use crate::domain::layer::{self, Change, Content, base_entry};
use crate::domain::logop::FileMode;
use crate::domain::merge::Status as MergeStatus;
use crate::domain::path::RepoPath;
use crate::git::base::GitBase;
use crate::git::promote::{Delta, Leaf, Promote, raw_mode, unified};
use crate::store::versions::{VersionError, Versions};

/// Larger contents are only said to differ.
pub const LARGEST: u64 = 64 << 20;
/// Lines around a change.
const CONTEXT: u32 = 3;

/// What a session's contents are read from.
#[derive(Debug)]
pub struct Contents {
    pub base: GitBase,
    pub versions: Versions,
}

impl Contents {
    pub fn of(site: &Site, session: &Session) -> Result<Rc<Self>, Failure> {
        Ok(Rc::new(Self {
            base: ground::base(site, session)?,
            versions: Versions::of(&site.store),
        }))
    }

    fn size(&self, content: &Content) -> Result<Option<u64>, Failure> {
        match content {
            Content::None | Content::Unsettled => Ok(None),
            Content::Version { size, .. } => Ok(Some(*size)),
            Content::Target(target) => Ok(Some(target.0.len() as u64)),
            Content::Base(path) => {
                let entry = self.entry(path)?;
                let size = self.base.size(path, &entry);
                size.map(Some).map_err(|error| unreadable(path, &error))
            }
        }
    }

    fn read(&self, path: &RepoPath, content: &Content) -> Result<Loaded, Failure> {
        if self.size(content)?.is_some_and(|size| size > LARGEST) {
            return Ok(Loaded::Large);
        }
        Ok(match content {
            Content::None => Loaded::Bytes(Vec::new()),
            Content::Unsettled => Loaded::Unsettled,
            Content::Target(target) => Loaded::Bytes(target.0.clone()),
            Content::Version { sha256, .. } => match self.versions.read(sha256) {
                Ok(bytes) => Loaded::Bytes(bytes),
                Err(VersionError::Missing(_)) => Loaded::Gone,
                Err(error) => return Err(bad_version(path, &error)),
            },
            Content::Base(at) => {
                let entry = self.entry(at)?;
                let bytes = self.base.read(at, &entry);
                Loaded::Bytes(bytes.map_err(|error| unreadable(at, &error))?)
            }
        })
    }

    fn entry(&self, path: &RepoPath) -> Result<crate::domain::base::BaseEntry, Failure> {
        base_entry(&self.base, path)
            .map_err(|error| unreadable(path, &error))?
            .ok_or_else(|| Failure::integrity(format!("the base has no {path}")))
    }
}

fn unreadable(path: &RepoPath, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{path}: the base cannot be read: {error}"))
}

/// Says which path a version's fault concerns.
pub fn bad_version(path: &RepoPath, error: &VersionError) -> Failure {
    match error {
        VersionError::Io { .. } => Failure::failed(format!("{path}: {error}")),
        VersionError::Missing(_) | VersionError::Altered { .. } => {
            Failure::integrity(format!("{path}: {error}"))
                .hint("govfs verify --deep says whether more is wrong")
        }
    }
}

/// Where the bytes of one side are.
#[derive(Clone, Debug)]
enum Body {
    Session(Rc<Contents>, Content),
    Blob(Rc<Promote>, Oid),
}

/// One side of a change: what stood there, or what stands there now.
#[derive(Clone, Debug)]
pub struct Side {
    /// As trees have it.
    pub mode: u32,
    body: Body,
}

/// What reading a side gave.
enum Loaded {
    Bytes(Vec<u8>),
    Large,
    /// Past retention.
    Gone,
    /// Being written.
    Unsettled,
}

impl Side {
    pub fn new(contents: &Rc<Contents>, mode: FileMode, content: Content) -> Self {
        Self {
            mode: raw_mode(mode),
            body: Body::Session(Rc::clone(contents), content),
        }
    }

    fn of_leaf(promote: &Rc<Promote>, leaf: Leaf) -> Self {
        Self {
            mode: leaf.mode,
            body: Body::Blob(Rc::clone(promote), leaf.oid),
        }
    }

    fn size(&self) -> Result<Option<u64>, Failure> {
        match &self.body {
            Body::Session(contents, content) => contents.size(content),
            Body::Blob(promote, oid) => promote.blob_size(*oid).map(Some).map_err(Failure::failed),
        }
    }

    fn read(&self, path: &RepoPath) -> Result<Loaded, Failure> {
        match &self.body {
            Body::Session(contents, content) => contents.read(path, content),
            Body::Blob(..) if self.mode == crate::git::promote::MODE_COMMIT => {
                Ok(Loaded::Bytes(Vec::new()))
            }
            Body::Blob(..) if self.size()?.is_some_and(|size| size > LARGEST) => Ok(Loaded::Large),
            Body::Blob(promote, oid) => promote
                .blob(*oid)
                .map(Loaded::Bytes)
                .map_err(Failure::failed),
        }
    }

    /// Returns the content, where the side is a session's.
    pub fn content(&self) -> Option<&Content> {
        match &self.body {
            Body::Session(_, content) => Some(content),
            Body::Blob(..) => None,
        }
    }
}

/// A path's change, with both sides.
#[derive(Clone, Debug)]
pub struct Shift {
    pub path: RepoPath,
    /// The path it had before.
    pub from: Option<RepoPath>,
    pub old: Option<Side>,
    pub new: Option<Side>,
}

/// How a change reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    pub text: Vec<u8>,
    /// Lines, where both sides are text.
    pub lines: Option<(usize, usize)>,
}

impl Shift {
    /// Returns what a layer changed at one path.
    pub fn of_change(contents: &Rc<Contents>, change: &Change) -> Result<Self, Failure> {
        let before = change.from.as_ref().unwrap_or(&change.path);
        let old = if change.status == layer::Status::Added {
            None
        } else {
            let entry = contents.entry(before)?;
            let mode = layer::base_mode(&entry);
            Some(Side::new(contents, mode, Content::Base(before.clone())))
        };
        let new = change
            .mode
            .map(|mode| Side::new(contents, mode, change.content.clone()));
        Ok(Self {
            path: change.path.clone(),
            from: change.from.clone(),
            old,
            new,
        })
    }

    /// Returns what a commit changed at one path.
    pub fn of_delta(promote: &Rc<Promote>, delta: &Delta) -> Self {
        let side = |leaf: Option<Leaf>| leaf.map(|leaf| Side::of_leaf(promote, leaf));
        Self {
            path: delta.path.clone(),
            from: None,
            old: side(delta.old).filter(|_| delta.status != MergeStatus::Added),
            new: side(delta.new).filter(|_| delta.status != MergeStatus::Deleted),
        }
    }

    /// Says whether the two sides differ at all; equal sizes cost reading both.
    pub fn differs(&self) -> Result<bool, Failure> {
        let (Some(old), Some(new)) = (&self.old, &self.new) else {
            return Ok(true);
        };
        if self.from.is_some() || old.mode != new.mode {
            return Ok(true);
        }
        match (old.size()?, new.size()?) {
            (Some(was), Some(is)) if was == is => {}
            _ => return Ok(true),
        }
        let before = self.from.as_ref().unwrap_or(&self.path);
        Ok(match (old.read(before)?, new.read(&self.path)?) {
            (Loaded::Bytes(old), Loaded::Bytes(new)) => old != new,
            _ => true,
        })
    }

    /// Returns the letter by which git names such a change.
    pub fn letter(&self) -> char {
        const LINK: u32 = crate::git::promote::MODE_LINK;
        match (&self.old, &self.new) {
            (_, None) => 'D',
            _ if self.from.is_some() => 'R',
            (None, _) => 'A',
            (Some(old), Some(new)) if (old.mode == LINK) != (new.mode == LINK) => 'T',
            _ => 'M',
        }
    }

    /// Returns the change in unified form, as git writes it.
    pub fn patch(&self) -> Result<Patch, Failure> {
        let before = self.from.as_ref().unwrap_or(&self.path);
        let mut text = Vec::new();
        let (a, b) = (quoted(b"a/", before), quoted(b"b/", &self.path));
        text.extend([b"diff --git ", a.as_slice(), b" ", &b, b"\n"].concat());
        self.write_modes(&mut text);
        if let Some(from) = &self.from {
            text.extend([b"rename from ", quoted(b"", from).as_slice(), b"\n"].concat());
            text.extend([b"rename to ", quoted(b"", &self.path).as_slice(), b"\n"].concat());
        }
        let read = |side: &Option<Side>, path| match side {
            Some(side) => side.read(path),
            None => Ok(Loaded::Bytes(Vec::new())),
        };
        let (old, new) = (read(&self.old, before)?, read(&self.new, &self.path)?);
        let null = b"/dev/null".to_vec();
        let a = if self.old.is_some() { a } else { null.clone() };
        let b = if self.new.is_some() { b } else { null };
        let lines = match (old, new) {
            (Loaded::Bytes(old), Loaded::Bytes(new)) => hunks(&mut text, (&a, &old), (&b, &new))?,
            (Loaded::Gone, _) | (_, Loaded::Gone) => {
                text.extend_from_slice(b"(the content is past retention and not kept any more)\n");
                None
            }
            (Loaded::Unsettled, _) | (_, Loaded::Unsettled) => {
                text.extend_from_slice(b"(being written: the file has not settled)\n");
                None
            }
            (Loaded::Large, _) | (_, Loaded::Large) => {
                text.extend([b"Files ", a.as_slice(), b" and ", &b, b" differ (large)\n"].concat());
                None
            }
        };
        Ok(Patch { text, lines })
    }

    fn write_modes(&self, text: &mut Vec<u8>) {
        let line = match (&self.old, &self.new) {
            (None, Some(new)) => format!("new file mode {:o}\n", new.mode),
            (Some(old), None) => format!("deleted file mode {:o}\n", old.mode),
            (Some(old), Some(new)) if old.mode != new.mode => {
                format!("old mode {:o}\nnew mode {:o}\n", old.mode, new.mode)
            }
            _ => String::new(),
        };
        text.extend_from_slice(line.as_bytes());
    }
}

fn hunks(
    text: &mut Vec<u8>,
    (a, old): (&[u8], &[u8]),
    (b, new): (&[u8], &[u8]),
) -> Result<Option<(usize, usize)>, Failure> {
    let Some(hunks) = unified(old, new, CONTEXT).map_err(Failure::failed)? else {
        text.extend([b"Binary files ", a, b" and ", b, b" differ\n"].concat());
        return Ok(None);
    };
    if hunks.is_empty() {
        return Ok(Some((0, 0)));
    }
    text.extend([b"--- ", a, b"\n+++ ", b, b"\n"].concat());
    let begin = |mark: u8| {
        let lines = hunks.split(|&byte| byte == b'\n');
        lines.filter(|line| line.first() == Some(&mark)).count()
    };
    let lines = (begin(b'+'), begin(b'-'));
    text.extend_from_slice(&hunks);
    Ok(Some(lines))
}

/// Writes a path as git's patches do: odd names in quotes, with escapes.
pub fn quoted(prefix: &[u8], path: &RepoPath) -> Vec<u8> {
    let bytes = [prefix, path.as_bytes()].concat();
    let odd = |byte: &u8| *byte < 0x20 || *byte >= 0x7f || matches!(byte, b'"' | b'\\');
    if !bytes.iter().any(odd) {
        return bytes;
    }
    let mut out = vec![b'"'];
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            b'\t' => out.extend(b"\\t"),
            _ if odd(&byte) => out.extend(format!("\\{byte:03o}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_are_quoted_as_git_quotes_them() {
        let path = |text: &[u8]| RepoPath::parse(text).expect("a path");
        assert_eq!(quoted(b"a/", &path(b"x y")), b"a/x y");
        assert_eq!(
            quoted(b"b/", &path("é\"\n".as_bytes())),
            b"\"b/\\303\\251\\\"\\n\""
        );
    }
}

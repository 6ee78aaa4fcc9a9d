//! Patterns: which paths a claim, a role or a zone speaks of.
//!
//! A pattern is a *literal* path, which covers itself and everything beneath, or
//! a *glob*, which matches whole paths and covers nothing beneath:
//!
//! - `*` any bytes of one component, `?` one byte, `[a-z]` `[!a-z]` `[^a-z]`
//!   `[[:digit:]]` one byte of a class; all match a leading dot, none a `/`;
//! - `{a,b}` either (nested, empty and with `/` inside as well);
//! - `**` zero or more whole components, so `dir/**` is `dir` and all beneath it;
//! - `\` takes the next byte as it is.
//!
//! Names are bytes: `?` is one byte of `é`, not the whole letter.
//!
//! Owns: parsing, matching, and the exact decisions [`Pattern::overlap`] and
//! [`Pattern::inside`], both with a path as witness. Invariants: a pattern that
//! exists can be claimed (some path matches every alternative of it); a witness
//! is a path that can exist; no decision samples. Never asks whether a path is
//! reserved: `**` covers a `.git` too, the zones come first.

mod ends;
mod error;
mod glob;
mod inside;
mod names;
mod odd;
mod overlap;
mod parse;
mod shell;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::path::PATH_MAX;
use crate::domain::path::RepoPath;
use crate::domain::path::percent_decode;
use crate::domain::path::percent_encode;
use glob::Part;

pub use ends::Ends;
pub use error::PatternError;

/// The longest pattern, in bytes.
pub const PATTERN_MAX: usize = 4096;

/// A compiled pattern. Cloning is cheap; order and equality are those of the text.
#[derive(Clone)]
pub struct Pattern(Arc<Compiled>);

struct Compiled {
    source: Box<[u8]>,
    literal: Option<RepoPath>,
    /// A covered path, as short as can be.
    example: RepoPath,
    /// Every covered path is this directory or lies beneath it.
    prefix: RepoPath,
    /// Braces expanded: a path is covered when one of these matches it. A literal ends in `Deep`.
    alternatives: Vec<Vec<Part>>,
    explicit: bool,
}

impl Pattern {
    /// Compiles a pattern; one that can never be claimed is an error that says what to write instead.
    pub fn parse(text: &[u8]) -> Result<Self, PatternError> {
        let parsed = parse::parse(text)?;
        let explicit = parsed.literal.is_some()
            || parsed
                .alternatives
                .iter()
                .all(|parts| matches!(parts.last(), Some(Part::Name(_))));
        let prefix = match &parsed.literal {
            Some(path) => path.clone(),
            None => common_prefix(&parsed.alternatives),
        };
        Ok(Self(Arc::new(Compiled {
            source: parsed.source.into(),
            literal: parsed.literal,
            example: parsed.example,
            prefix,
            alternatives: parsed.alternatives,
            explicit,
        })))
    }

    /// Returns the literal pattern for `path`, whatever bytes it has; the root has none.
    pub fn exactly(path: &RepoPath) -> Result<Self, PatternError> {
        let mut text = Vec::with_capacity(path.as_bytes().len());
        for &byte in path.as_bytes() {
            if matches!(byte, b'*' | b'?' | b'[' | b']' | b'{' | b'}' | b'\\') {
                text.push(b'\\');
            }
            text.push(byte);
        }
        Self::parse(&text)
    }

    /// Returns the text it was parsed from (a literal's trailing `/` is dropped).
    pub fn source(&self) -> &[u8] {
        &self.0.source
    }

    /// Returns the form that stands in the ledger and in JSON.
    pub fn encode(&self) -> String {
        percent_encode(&self.0.source)
    }

    /// Says whether a write to `path` is covered. The root never is. Allocates nothing.
    pub fn covers(&self, path: &RepoPath) -> bool {
        if let Some(literal) = &self.0.literal {
            return path.starts_with(literal);
        }
        !path.is_root()
            && path.starts_with(&self.0.prefix)
            && (self.0.alternatives.iter()).any(|parts| glob::path_matches(parts, path.as_bytes()))
    }

    /// Says whether `dir` is a proper ancestor of some path that can be covered.
    pub fn leads_to(&self, dir: &RepoPath) -> bool {
        (self.0.alternatives.iter()).any(|parts| glob::path_leads(parts, dir.as_bytes()))
    }

    pub fn is_literal(&self) -> bool {
        self.0.literal.is_some()
    }

    pub fn literal(&self) -> Option<&RepoPath> {
        self.0.literal.as_ref()
    }

    /// Says whether the pattern names what it covers: a literal, or a glob whose
    /// last component has no wildcard (`{a,b}` names two).
    pub fn is_explicit(&self) -> bool {
        self.0.explicit
    }

    /// Returns the longest path without a wildcard that every covered path equals
    /// or lies beneath: a literal's own path, `src` for `src/*.rs`, the root for `**/x`.
    ///
    /// Two patterns overlap only if the prefix of one equals or is an ancestor of
    /// the prefix of the other, so an index on prefixes finds all candidates.
    pub fn literal_prefix(&self) -> &RepoPath {
        &self.0.prefix
    }

    /// Parses what somebody types: bytes that are mostly a slip of the pen must be escaped,
    /// and what nobody can ever write is no use to anybody.
    pub fn typed(source: &[u8]) -> Result<Self, PatternError> {
        let pattern = Self::parse(source)?;
        if pattern.literal_prefix().components().next() == Some(b".govfs") {
            return Err(PatternError::Control);
        }
        odd::meant(source).map(|()| pattern)
    }

    /// Returns what is unusual about a legal pattern and may be a slip of the pen.
    pub fn odd(&self) -> Option<&'static str> {
        odd::odd(&self.0.source)
    }

    /// Returns a path that the pattern covers, a shortest of its first alternative.
    pub fn example(&self) -> &RepoPath {
        &self.0.example
    }

    /// Returns a short readable path that both cover, if there is one. Exact.
    pub fn overlap(&self, other: &Self) -> Option<RepoPath> {
        if !self.may_overlap(other) {
            return None;
        }
        if let (Some(one), Some(two)) = (self.literal(), other.literal()) {
            return Some(one.max(two).clone()); // one is beneath the other, and sorts after it
        }
        let path = match self.beneath_literal(other) {
            Some(path) => path,
            None => overlap::overlap(&self.0.alternatives, &other.0.alternatives)?,
        };
        Some(overlap::readable(path, |path| {
            self.covers(path) && other.covers(path)
        }))
    }

    /// Says whether some path is covered by both: [`Pattern::overlap`] without the witness.
    pub fn overlaps(&self, other: &Self) -> bool {
        if !self.may_overlap(other) {
            return false;
        }
        if let Some((path, glob)) = self.literal_and_glob(other)
            && path.as_bytes().len() + glob.0.source.len() * 3 < PATH_MAX
        {
            return glob.meets_literal(path); // whatever is missing beneath the path is short enough
        }
        (self.is_literal() && other.is_literal())
            || self.covers(other.example())
            || other.covers(self.example())
            || overlap::overlap(&self.0.alternatives, &other.0.alternatives).is_some()
    }

    /// Returns the shortest common path of a literal and a glob of one alternative, where
    /// it is the literal's own or lies directly beneath it; most are of that kind.
    fn beneath_literal(&self, other: &Self) -> Option<RepoPath> {
        let (path, glob) = self.literal_and_glob(other)?;
        if glob.covers(path) {
            return Some(path.clone());
        }
        // The last name cannot be shorter than the shortest that the glob ends in.
        let beneath = path.join(glob.example().name()).ok()?;
        (glob.0.alternatives.len() == 1 && glob.covers(&beneath)).then_some(beneath)
    }

    fn literal_and_glob<'a>(&'a self, other: &'a Self) -> Option<(&'a RepoPath, &'a Self)> {
        match (self.literal(), other.literal()) {
            (Some(path), None) => Some((path, other)),
            (None, Some(path)) => Some((path, self)),
            _ => None,
        }
    }

    fn may_overlap(&self, other: &Self) -> bool {
        let (one, two) = (self.literal_prefix(), other.literal_prefix());
        one.starts_with(two) || two.starts_with(one)
    }

    /// Says whether every path this pattern covers is covered by one of `others`;
    /// the error is a path that is not.
    ///
    /// Exact. Only where the decision would take more than a fixed number of steps
    /// (a dozen interleaved wildcards and more) a path of `self` is returned unproved:
    /// what cannot be shown to be inside is refused.
    pub fn inside(&self, others: &[Self]) -> Result<(), RepoPath> {
        let swallowed = |other: &Self| {
            other == self
                || (other.literal())
                    .is_some_and(|literal| self.literal_prefix().starts_with(literal))
        };
        if others.iter().any(swallowed) {
            return Ok(());
        }
        let union: Vec<&[Part]> = others
            .iter()
            .filter(|other| self.may_overlap(other))
            .flat_map(|other| other.0.alternatives.iter().map(Vec::as_slice))
            .collect();
        let outside = match inside::outside(&self.0.alternatives, &union) {
            Ok(None) => return Ok(()),
            Ok(Some(path)) => path,
            Err(inside::TooHard) => return Err(self.example().clone()),
        };
        Err(overlap::readable(outside, |path| {
            self.covers(path) && !others.iter().any(|other| other.covers(path))
        }))
    }
}

/// Returns the components that all alternatives begin with, as a path.
fn common_prefix(alternatives: &[Vec<Part>]) -> RepoPath {
    let mut prefix = RepoPath::root();
    for at in 0.. {
        let name = |parts: &Vec<Part>| match parts.get(at) {
            Some(Part::Name(name)) => Some(name.clone()),
            _ => None,
        };
        let mut names = alternatives.iter().map(name);
        let Some(Some(first)) = names.next() else {
            break;
        };
        if !names.all(|other| other.as_ref() == Some(&first)) {
            break;
        }
        match prefix.join(&first) {
            Ok(longer) => prefix = longer,
            Err(_) => break,
        }
    }
    prefix
}

impl fmt::Display for Pattern {
    /// The text as people write it; bytes that no terminal should see are percent-encoded.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.source.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() {
                    f.write_str(&percent_encode(c.encode_utf8(&mut [0; 4]).as_bytes()))?;
                } else {
                    fmt::Write::write_char(f, c)?;
                }
            }
            f.write_str(&percent_encode(chunk.invalid()))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.source == other.0.source
    }
}

impl Eq for Pattern {}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.source.cmp(&other.0.source)
    }
}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.source.hash(state);
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text.as_bytes())
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.encode())
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = percent_decode(&text)
            .ok_or_else(|| serde::de::Error::custom("not a percent-encoded pattern"))?;
        Self::parse(&bytes).map_err(serde::de::Error::custom)
    }
}

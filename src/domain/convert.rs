//! What `git checkout` does to the bytes of a file, and its inverse.
//!
//! Owns: line endings, `$Id$`, working-tree encodings and Git LFS pointers, decided
//! by a path's attributes and two pinned settings. A merge uses this inverse alone,
//! so no program of an agent's or a repository's choosing ever runs. Filters other
//! than LFS are applied neither way. Never guesses: text that cannot be converted
//! is shown as git shows it, unconverted, and refused on the way back.

mod encoding;
mod ident;
mod lfs;
mod lines;

use std::borrow::Cow;

use crate::domain::attributes::Attributes;
use crate::domain::attributes::Value;
use crate::domain::base::Oid;

pub use encoding::Encoding;
pub use lfs::LfsPointer;
pub use lfs::lfs_pointer;

use lines::LineAction;

/// `core.autocrlf`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoCrlf {
    #[default]
    False,
    True,
    Input,
}

/// `core.eol`; native is LF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eol {
    #[default]
    Lf,
    Crlf,
}

/// The operator's settings, pinned for a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EolConfig {
    pub autocrlf: AutoCrlf,
    pub eol: Eol,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    #[error("the content is not valid {encoding}, its working-tree-encoding")]
    NotInEncoding { encoding: String },
    #[error("{encoding} text must not begin with a byte order mark")]
    ProhibitedMark { encoding: String },
    #[error("{encoding} text must begin with a byte order mark")]
    MissingMark { encoding: String },
    #[error("the content does not survive the way to {encoding} and back")]
    RoundTrip { encoding: String },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Filter {
    #[default]
    None,
    Lfs,
    /// Any other filter; not applied.
    Other,
}

/// How one path is converted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Conversion {
    lines: LineAction,
    ident: bool,
    encoding: Option<Encoding>,
    filter: Filter,
}

impl Conversion {
    /// Decides from a path's attributes.
    pub fn new(attributes: &Attributes<'_>, config: EolConfig) -> Self {
        let filter = match attributes.filter.text() {
            Some(b"lfs") => Filter::Lfs,
            Some(_) => Filter::Other,
            None => Filter::None,
        };
        Self {
            lines: LineAction::new(attributes, config),
            ident: *attributes.ident == Value::Set,
            encoding: attributes
                .working_tree_encoding
                .text()
                .and_then(Encoding::named),
            filter,
        }
    }

    pub fn filter(&self) -> Filter {
        self.filter
    }

    /// Says whether what is shown may differ from what git stores.
    pub fn shows_other_bytes(&self) -> bool {
        self.lines.writes_crlf()
            || self.ident
            || self.encoding.is_some()
            || self.filter == Filter::Lfs
    }

    /// Says whether what git stores may differ from what is written.
    pub fn stores_other_bytes(&self) -> bool {
        self.lines.may_strip()
            || self.ident
            || self.encoding.is_some()
            || self.filter == Filter::Lfs
    }
}

/// Returns what a checkout writes for the blob `bytes` with the id `oid`. For an
/// LFS file that is the pointer; its content is the caller's to find.
pub fn to_worktree<'a>(bytes: &'a [u8], oid: &Oid, conversion: &Conversion) -> Cow<'a, [u8]> {
    let mut out = Cow::Borrowed(bytes);
    if conversion.ident {
        let whole = conversion.encoding.is_some() || conversion.lines.needs_whole_file();
        let expand = if whole {
            ident::expand
        } else {
            ident::expand_streamed
        };
        out = then(out, |bytes| expand(bytes, oid));
    }
    out = then(out, |bytes| conversion.lines.to_worktree(bytes));
    if let Some(encoding) = &conversion.encoding {
        // Like git: text that cannot be expressed stays as it is.
        out = then(out, |bytes| encoding.encode(bytes));
    }
    out
}

/// Returns what git stores for the file content `bytes`; `base` is the blob that
/// stood at the path before, whose line endings decide for `text=auto`.
pub fn to_git<'a>(
    bytes: &'a [u8],
    conversion: &Conversion,
    base: Option<&[u8]>,
) -> Result<Cow<'a, [u8]>, ConvertError> {
    let mut out = Cow::Borrowed(bytes);
    if conversion.filter == Filter::Lfs {
        out = then(out, lfs::clean);
    }
    if let Some(encoding) = &conversion.encoding
        && !out.is_empty()
    {
        out = Cow::Owned(encoding.decode(&out)?);
    }
    out = then(out, |bytes| conversion.lines.to_git(bytes, base));
    if conversion.ident {
        out = then(out, ident::collapse);
    }
    Ok(out)
}

/// Applies a step that returns nothing where it changes nothing.
fn then(bytes: Cow<'_, [u8]>, step: impl FnOnce(&[u8]) -> Option<Vec<u8>>) -> Cow<'_, [u8]> {
    match step(&bytes) {
        Some(changed) => Cow::Owned(changed),
        None => bytes,
    }
}

#[cfg(test)]
mod tests;

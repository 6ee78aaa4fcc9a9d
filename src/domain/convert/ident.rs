//! `$Id$`, by git's rules.
//!
//! Owns: which keywords are rewritten: those on one line, and of the expanded ones
//! those that are not another system's (more than one word). Git has two readers
//! that differ in odd places: one for files that stream by, the usual one, and one
//! for files that it holds whole because an encoding or a guess at line endings
//! asks for that. A checkout is shown as the reader that git would use writes it.

use crate::domain::base::Oid;

/// One `$` of a text: what lies up to it was passed, what may follow it.
enum Keyword<'a> {
    /// `Id$`; what comes after.
    Bare(&'a [u8]),
    /// `Id:…$` on one line; the inner text and what comes after.
    Expanded(&'a [u8], &'a [u8]),
    /// Not a keyword; go on right behind the `$`.
    Plain,
    /// No `$` can end a keyword any more.
    End,
}

fn keyword(after_dollar: &[u8]) -> Keyword<'_> {
    if let Some(rest) = after_dollar.strip_prefix(b"Id$") {
        return Keyword::Bare(rest);
    }
    let Some(inner) = after_dollar.strip_prefix(b"Id:") else {
        return Keyword::Plain;
    };
    let Some(end) = inner.iter().position(|&b| b == b'$') else {
        return Keyword::End;
    };
    if inner[..end].contains(&b'\n') {
        return Keyword::Plain;
    }
    Keyword::Expanded(&inner[..end], &inner[end + 1..])
}

/// Writes each `$Id$` as `$Id: <the blob's id> $`, as git does with a whole file.
pub(super) fn expand(bytes: &[u8], oid: &Oid) -> Option<Vec<u8>> {
    let with = format!("Id: {oid} $");
    rewrite(bytes, with.as_bytes(), |keyword| {
        let Keyword::Expanded(inner, _) = keyword else {
            return true;
        };
        // A space inside, not at the end, is another system's keyword.
        let space = inner
            .get(1..)
            .and_then(|tail| tail.iter().position(|&b| b == b' '));
        space.is_none_or(|at| at + 2 == inner.len())
    })
}

/// Writes each `$Id: …$` as `$Id$`.
pub(super) fn collapse(bytes: &[u8]) -> Option<Vec<u8>> {
    // A bare keyword is no keyword to this reader: its last `$` may begin the next.
    rewrite(bytes, b"Id$", |keyword| {
        matches!(keyword, Keyword::Expanded(..))
    })
}

fn rewrite(bytes: &[u8], with: &[u8], ours: impl Fn(&Keyword<'_>) -> bool) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(dollar) = rest.iter().position(|&b| b == b'$') {
        out.extend_from_slice(&rest[..=dollar]);
        rest = &rest[dollar + 1..];
        let found = keyword(rest);
        match found {
            Keyword::Bare(tail) | Keyword::Expanded(_, tail) if ours(&found) => {
                out.extend_from_slice(with);
                rest = tail;
            }
            Keyword::Bare(_) | Keyword::Expanded(..) | Keyword::Plain => {}
            Keyword::End => break,
        }
    }
    out.extend_from_slice(rest);
    (out != bytes).then_some(out)
}

/// Writes each `$Id$` as [`expand`] does, as git does with a file that streams by.
pub(super) fn expand_streamed(bytes: &[u8], oid: &Oid) -> Option<Vec<u8>> {
    let with = format!("$Id: {oid} $");
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(dollar) = rest.iter().position(|&b| b == b'$') {
        out.extend_from_slice(&rest[..dollar]);
        let (keyword, taken) = streamed_keyword(&rest[dollar..]);
        if keyword {
            out.extend_from_slice(with.as_bytes());
        } else {
            out.extend_from_slice(&rest[dollar..dollar + taken]);
        }
        rest = &rest[dollar + taken..];
    }
    out.extend_from_slice(rest);
    (out != bytes).then_some(out)
}

/// Says whether `text`, which begins with `$`, begins with a keyword to rewrite, and
/// how much of it the reader takes: the byte that ends a hope is never looked at again.
fn streamed_keyword(text: &[u8]) -> (bool, usize) {
    const HEAD: &[u8] = b"$Id";
    let same = text.iter().zip(HEAD).take_while(|(a, b)| a == b).count();
    if same < HEAD.len() {
        return (false, text.len().min(same + 1));
    }
    match text.get(HEAD.len()) {
        Some(b'$') => (true, 4),
        Some(b':') => match text[4..].iter().position(|&b| b == b'$' || b == b'\n') {
            Some(at) => {
                let taken = &text[..at + 5];
                (taken.ends_with(b"$") && !is_foreign(taken), taken.len())
            }
            None => (false, text.len()),
        },
        // The reader compares with the NUL that ends its own text.
        Some(0) => (false, text.len().min(5)),
        Some(_) => (false, 4),
        None => (false, 3),
    }
}

fn is_foreign(keyword: &[u8]) -> bool {
    let Some(inner) = keyword.strip_prefix(b"$Id: ") else {
        return false;
    };
    let inner = inner.split(|&b| b == 0).next().unwrap_or_default();
    inner.iter().enumerate().any(|(at, byte)| {
        matches!(byte, b' ' | b'\t' | b'\n' | b'\r') && inner.get(at + 1) != Some(&b'$')
    })
}

//! Slips of the pen in patterns that are legal all the same.
//!
//! Owns: which bytes are taken only where a `\\` says that they are meant, and what
//! is worth a warning. A pattern that stands in the ledger is not asked again.

use super::error::PatternError;
use crate::domain::shell;

/// Fails on white space at a component's end, control characters and bytes that are
/// not UTF-8, unless each is escaped.
pub(super) fn meant(source: &[u8]) -> Result<(), PatternError> {
    let mut told: Option<&'static str> = None;
    let mut instead = Vec::with_capacity(source.len() + 2);
    let foreign = foreign(source);
    let mut escaped = false;
    for (at, &byte) in source.iter().enumerate() {
        let what = match byte {
            _ if escaped => None,
            _ if foreign.contains(&at) => Some("it is not UTF-8"),
            _ if is_edge(source, at) => Some("a component begins or ends with white space"),
            _ if byte.is_ascii_control() => Some("it contains a control character"),
            _ => None,
        };
        if what.is_some() {
            instead.push(b'\\');
            told = told.or(what);
        }
        instead.push(byte);
        escaped = !escaped && byte == b'\\';
    }
    match told {
        Some(what) => Err(PatternError::Slip {
            what,
            instead: shell::word(&instead),
        }),
        None => Ok(()),
    }
}

/// Returns where bytes stand that are no part of a letter.
fn foreign(source: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    for chunk in source.utf8_chunks() {
        at += chunk.valid().len();
        found.extend(at..at + chunk.invalid().len());
        at += chunk.invalid().len();
    }
    found
}

/// Says whether white space reaches from `at` to an end of its component.
fn is_edge(source: &[u8], at: usize) -> bool {
    let solid = |byte: &&u8| !byte.is_ascii_whitespace();
    let ends = |next: Option<&u8>| next.is_none_or(|&byte| byte == b'/');
    !solid(&&source[at])
        && (ends(source[..at].iter().rev().find(solid)) || ends(source[at..].iter().find(solid)))
}

/// Returns what may be a slip of the pen in a legal pattern.
pub(super) fn odd(source: &[u8]) -> Option<&'static str> {
    let escape_of_nothing = |two: &[u8]| two[0] == b'\\' && two[1].is_ascii_alphanumeric();
    let has = |byte: u8| source.contains(&byte);
    if source.windows(2).any(escape_of_nothing) {
        Some("`\\` before a letter or digit is dropped; components are separated by `/`")
    } else if has(b'[') && !has(b'\\') && !has(b'*') && !has(b'?') && !has(b'{') {
        Some("`[…]` is one byte of a class; write `\\[…\\]` for a name with brackets")
    } else {
        None
    }
}

//! The values of single settings.
//!
//! Owns: what a pattern, a name, a path outside the repository, a variable, a
//! branch and a size look like in the charter, and the words for those that are none.

use std::str::FromStr;

use crate::domain::charter::HostPath;
use crate::domain::pattern::Pattern;

pub(super) fn pattern(text: &str) -> Result<Pattern, String> {
    text.parse()
        .map_err(|error| format!("`{text}` is no pattern: {error}"))
}

pub(super) fn name<T: FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

pub(super) fn is_word(text: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=64).contains(&text.len()) && text.bytes().all(fine)
}

pub(super) fn engine(text: &str) -> Result<String, String> {
    if is_word(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is no engine; write one word, as in \"claude\""
    ))
}

/// Reads a path outside the repository.
pub(super) fn host_path(text: &str) -> Result<HostPath, String> {
    let rest = text.strip_prefix("~/").or_else(|| text.strip_prefix('/'));
    let part_fine = |part: &str| !part.is_empty() && part != "." && part != "..";
    match rest.map(|rest| rest.trim_end_matches('/')) {
        Some(rest) if rest.split('/').all(part_fine) && !rest.contains('\0') => {
            Ok(HostPath(text.trim_end_matches('/').to_owned()))
        }
        Some(_) => Err(format!("`{text}` has an empty, `.` or `..` component")),
        None => Err(format!("`{text}` must begin with `~/` or `/`")),
    }
}

pub(super) fn variable(text: &str) -> Result<String, String> {
    let stem = text.strip_suffix('*').unwrap_or(text);
    let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if stem.is_empty() || !stem.bytes().all(fine) || stem.as_bytes()[0].is_ascii_digit() {
        return Err(format!(
            "{text:?} is no variable's name; write `NAME` or `NAME_*`"
        ));
    }
    Ok(text.to_owned())
}

/// Checks a branch's name by git's rules.
pub(super) fn branch(text: &str) -> Result<String, String> {
    let part_fine = |part: &str| {
        let lock = part.as_bytes().ends_with(b".lock");
        !part.is_empty() && !part.starts_with('.') && !lock
    };
    let odd = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
    let fine = text.split('/').all(part_fine)
        && !text.contains(odd)
        && !text.contains("..")
        && !text.contains("@{")
        && !text.starts_with('-')
        && !text.starts_with("refs/")
        && !text.ends_with('.')
        && text != "@"
        && text != "HEAD";
    if fine {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is no branch; write its short name, as in \"main\""
    ))
}

/// Reads a size: a number of bytes, or one with `KiB`, `MiB`, `GiB` or `TiB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let (number, shift) = (units.iter())
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)))
        .unwrap_or((text, 0));
    (number.trim().parse::<u64>().ok())
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|size| *size > 0)
        .ok_or_else(|| format!("{text:?} is no size; write it as \"500MiB\" or \"10GiB\""))
}

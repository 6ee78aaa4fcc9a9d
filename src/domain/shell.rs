//! Words of a command as a person can paste them into a shell.
//!
//! Owns the quoting. Invariant: a shell makes one word of it, with the same bytes,
//! and a terminal that shows it is told nothing else.

use std::fmt::Write as _;

use crate::domain::screen;

/// Quotes a word, where it needs that.
pub fn word(bytes: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"/._-+@,:=%".contains(b);
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.is_empty() && bytes.iter().all(plain) => text.to_owned(),
        Ok(text) if !text.contains(screen::is_harmful) => {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
        _ => ansi(bytes),
    }
}

/// Writes bytes that no terminal should see as bash, zsh and ksh read them.
fn ansi(bytes: &[u8]) -> String {
    let mut word = String::from("$'");
    for &byte in bytes {
        match byte {
            b'\'' | b'\\' => word.extend(['\\', char::from(byte)]),
            b'\n' => word.push_str(r"\n"),
            b'\t' => word.push_str(r"\t"),
            b' '..=b'~' => word.push(char::from(byte)),
            // Three octal digits always, so that a digit that follows is not taken along.
            _ => {
                let _ = write!(word, "\\{byte:03o}");
            }
        }
    }
    word.push('\'');
    word
}

//! A path as a word that a person can paste into a shell.
//!
//! Owns: the spelling of a path in the commands that refusals tell. Invariant: a
//! shell makes one word of it, and as a pattern that word means the path alone.

use super::error::PatternError;
use super::{Pattern, odd};
use crate::domain::path::RepoPath;
use crate::domain::shell;

impl Pattern {
    /// Returns the shell's word for the pattern that means `path` and what lies beneath it.
    pub fn argument(path: &RepoPath) -> String {
        let bytes = path.as_bytes();
        let mut pattern = Vec::with_capacity(bytes.len() + 2);
        for &byte in bytes {
            if b"*?[]{}\\".contains(&byte) {
                pattern.push(b'\\');
            }
            pattern.push(byte);
        }
        match odd::meant(&pattern) {
            Err(PatternError::Slip { instead, .. }) => instead,
            _ => shell::word(&pattern),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_name_is_spelled_for_a_shell() {
        let table: [(&[u8], &str); 8] = [
            (b"src/a.rs", "src/a.rs"),
            (b"my file", "'my file'"),
            (b"app/[id]/page.tsx", r"'app/\[id\]/page.tsx'"),
            (b"it's", r"'it'\''s'"),
            (b"-rf", "-rf"),
            ("caf\u{e9}".as_bytes(), "'caf\u{e9}'"),
            (b"a\nb", r"$'a\\\nb'"),
            (b"\xff1*", r"$'\\\3771\\*'"),
        ];
        for (path, expected) in table {
            let path = RepoPath::parse(path).unwrap();
            assert_eq!(Pattern::argument(&path), expected);
        }
    }

    proptest! {
        #[test]
        fn a_shell_reads_back_a_pattern_that_means_the_path_alone(
            name in proptest::collection::vec(1_u8..=255, 1..12),
        ) {
            let Ok(path) = RepoPath::parse(&name) else { return Ok(()) };
            let word = Pattern::argument(&path);
            let source = unquoted(&word);
            let pattern = match Pattern::typed(&source) {
                Err(PatternError::Slip { what, .. }) => panic!("{word}: {what}"),
                Err(_) => return Ok(()),
                Ok(pattern) => pattern,
            };
            prop_assert_eq!(pattern.literal(), Some(&path), "{}", word);
        }
    }

    /// Reads a word as a shell does.
    fn unquoted(word: &str) -> Vec<u8> {
        if let Some(rest) = word.strip_prefix("$'") {
            let body = rest.strip_suffix('\'').unwrap().as_bytes();
            let mut out = Vec::new();
            let mut at = 0;
            while at < body.len() {
                match (body[at], body.get(at + 1)) {
                    (b'\\', Some(digit)) if digit.is_ascii_digit() => {
                        let text = std::str::from_utf8(&body[at + 1..at + 4]).unwrap();
                        out.push(u8::from_str_radix(text, 8).unwrap());
                        at += 4;
                    }
                    (b'\\', Some(&byte)) => {
                        out.push(match byte {
                            b'n' => b'\n',
                            b't' => b'\t',
                            other => other,
                        });
                        at += 2;
                    }
                    (byte, _) => {
                        out.push(byte);
                        at += 1;
                    }
                }
            }
            return out;
        }
        match word.strip_prefix('\'') {
            Some(rest) => {
                let body = rest.strip_suffix('\'').unwrap();
                body.replace(r"'\''", "'").into_bytes()
            }
            None => word.as_bytes().to_vec(),
        }
    }
}

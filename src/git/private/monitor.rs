//! Whether git may be told what changed instead of looking for itself.
//!
//! Owns: the oldest git that gets every answer right then. Before 2.43 `git diff HEAD`
//! and `git stash` read memory that nobody had filled for a file that was said to be
//! unchanged, and took it for a deleted one now and then.

use std::path::Path;
use std::process::{Command, Stdio};

type Version = (u32, u32);

const SOUND: Version = (2, 43);

/// Says whether this git may be told. One that does not name its version may not.
pub fn may_be_told(git: &Path) -> bool {
    let said = Command::new(git)
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    said.is_ok_and(|said| version(&said.stdout).is_some_and(|found| found >= SOUND))
}

fn version(said: &[u8]) -> Option<Version> {
    let text = std::str::from_utf8(said)
        .ok()?
        .strip_prefix("git version ")?;
    let mut numbers = text.trim_end().split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_git_says_them() {
        let table: [(&[u8], Option<Version>); 6] = [
            (b"git version 2.39.5\n", Some((2, 39))),
            (b"git version 2.43.0\n", Some((2, 43))),
            (b"git version 2.50.1 (Apple Git-155)\n", Some((2, 50))),
            (b"git version 3.0.rc1\n", Some((3, 0))),
            (b"git version two\n", None),
            (b"", None),
        ];
        for (said, expected) in table {
            assert_eq!(version(said), expected, "{}", said.escape_ascii());
        }
    }
}

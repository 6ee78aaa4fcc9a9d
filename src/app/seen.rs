//! Files that a session was seen to read: advice for its merge, never a rule.
//!
//! Owns: the list beside a session's log, one percent-encoded path a line. A server
//! knows of a read only while the kernel has to ask for the bytes, so the list
//! says what was surely read, never that something was not. It is written when a
//! session settles or ends, grows only, and is bounded; losing it costs advice.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use crate::domain::path::{RepoPath, percent_decode};

const FILE: &str = "seen";
/// A session that reads more is not followed further.
const PATHS_MAX: usize = 100_000;

/// Adds what a server has seen to the list of the session in `dir`.
pub fn note(dir: &Path, paths: &BTreeSet<RepoPath>) -> io::Result<()> {
    let mut all = load(dir);
    let before = all.len();
    all.extend(paths.iter().cloned());
    if all.len() == before || before >= PATHS_MAX {
        return Ok(());
    }
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    let mut out = io::BufWriter::new(file.as_file_mut());
    for path in all.iter().take(PATHS_MAX) {
        writeln!(out, "{path}")?;
    }
    out.flush()?;
    drop(out);
    file.persist(dir.join(FILE)).map_err(|error| error.error)?;
    Ok(())
}

/// Returns what the session in `dir` was seen to read; a list that cannot be read is none.
pub fn load(dir: &Path) -> BTreeSet<RepoPath> {
    let text = fs::read_to_string(dir.join(FILE)).unwrap_or_default();
    let lines = text.lines().filter_map(percent_decode);
    lines
        .filter_map(|path| RepoPath::parse(&path).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&[u8]]) -> BTreeSet<RepoPath> {
        let path = |name: &&[u8]| RepoPath::parse(name).expect("a path");
        names.iter().map(path).collect()
    }

    #[test]
    fn the_list_grows_and_keeps_odd_names() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(load(dir.path()).is_empty());
        note(dir.path(), &paths(&[b"a", b"x\ny"])).expect("written");
        note(dir.path(), &paths(&[b"b/c"])).expect("written");
        assert_eq!(load(dir.path()), paths(&[b"a", b"b/c", b"x\ny"]));
    }
}

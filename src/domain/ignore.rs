//! Which paths a tree's own `.gitignore` files ignore.
//!
//! Owns: git's rules for them. The deepest file is asked first, in a file the last
//! matching line wins, `!` takes a path back, a trailing slash means directories
//! only, and nothing beneath an ignored directory can be taken back. Only files of
//! the base's tree count: `info/exclude` and a person's own list differ from one
//! machine to the next. Never reads them; the caller gives the bytes.

use std::sync::Arc;

use gix_glob::pattern::Case;
use gix_glob::wildmatch::Mode;

use crate::domain::path::RepoPath;

/// The patterns of one `.gitignore` file.
#[derive(Debug, Default)]
pub struct IgnoreFile {
    patterns: Vec<gix_glob::Pattern>,
}

impl IgnoreFile {
    pub fn parse(bytes: &[u8]) -> Self {
        Self {
            patterns: gix_ignore::parse(bytes, false)
                .map(|(pattern, _, _)| pattern)
                .collect(),
        }
    }

    /// Says what the last matching line says; `path` is relative to the file's directory.
    fn verdict(&self, path: &[u8], is_dir: bool) -> Option<bool> {
        let base = path.iter().rposition(|&b| b == b'/').map(|at| at + 1);
        let matching = self.patterns.iter().rev().find(|pattern| {
            pattern.matches_repo_relative_path(
                path.into(),
                base,
                Some(is_dir),
                Case::Sensitive,
                Mode::NO_MATCH_SLASH_LITERAL,
            )
        })?;
        Some(!matching.is_negative())
    }
}

/// Says whether `path` is ignored, itself or by one of its directories.
/// `file_of` gives the `.gitignore` of a directory, where it has one.
pub fn ignored<E>(
    path: &RepoPath,
    is_dir: bool,
    mut file_of: impl FnMut(&RepoPath) -> Result<Option<Arc<IgnoreFile>>, E>,
) -> Result<bool, E> {
    if path.is_root() {
        return Ok(false);
    }
    let mut files = Vec::new();
    if let Some(file) = file_of(&RepoPath::root())? {
        files.push((0, file));
    }
    for dir in path.ancestors() {
        if verdict(&files, dir.as_bytes(), true) {
            return Ok(true);
        }
        if let Some(file) = file_of(&dir)? {
            files.push((dir.as_bytes().len() + 1, file));
        }
    }
    Ok(verdict(&files, path.as_bytes(), is_dir))
}

fn verdict(files: &[(usize, Arc<IgnoreFile>)], path: &[u8], is_dir: bool) -> bool {
    files
        .iter()
        .rev()
        .find_map(|(prefix, file)| file.verdict(&path[*prefix..], is_dir))
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], path: &str, is_dir: bool) -> bool {
        let path = RepoPath::parse(path.as_bytes()).expect(path);
        let answer: Result<_, ()> = ignored(&path, is_dir, |dir| {
            let found = files.iter().find(|(at, _)| at.as_bytes() == dir.as_bytes());
            Ok(found.map(|(_, text)| Arc::new(IgnoreFile::parse(text.as_bytes()))))
        });
        answer.expect("no error")
    }

    #[test]
    fn the_last_line_of_the_deepest_file_decides() {
        let files = [
            (
                "",
                "*.log\n!keep.log\n/top\nbuild/\ndocs/*.txt\n**/deep/x\n",
            ),
            ("sub", "!a.log\nonly\n"),
        ];
        let cases = [
            ("a.log", false, true),
            ("keep.log", false, false),
            ("sub/a.log", false, false),
            ("sub/b.log", false, true),
            ("top", false, true),
            ("sub/top", false, false),
            ("build", false, false),
            ("build", true, true),
            ("build/keep.log", false, true),
            ("x/build/y", false, true),
            ("docs/a.txt", false, true),
            ("docs/more/a.txt", false, false),
            ("p/q/deep/x", false, true),
            ("sub/only", false, true),
            ("only", false, false),
        ];
        for (path, is_dir, expected) in cases {
            assert_eq!(check(&files, path, is_dir), expected, "{path}");
        }
    }

    #[test]
    fn nothing_beneath_an_ignored_directory_is_taken_back() {
        let files = [("", "/out\n!/out/keep\n"), ("out", "!keep\n")];
        assert!(check(&files, "out/keep", false));
        let files = [("", "/out/*\n!/out/keep\n")];
        assert!(!check(&files, "out/keep", false));
        assert!(check(&files, "out/other", false));
    }
}

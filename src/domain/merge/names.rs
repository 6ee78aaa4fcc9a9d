//! Names that could harm whoever checks them out, lists them or types them.
//!
//! Owns: which names those are, and why. A name is judged where it is
//! introduced, `.git` and its aliases everywhere.

use super::{Facts, MergeRefusal, Node, Proposed, View};
use crate::domain::path::{RepoPath, is_git_alias, strip_ignorable};

/// The files that git obeys, by canonical name.
const GIT_CONTROL: [&[u8]; 3] = [b".gitmodules", b".gitattributes", b".lfsconfig"];
/// The files that git reads and that must not be symlinks.
const GIT_READ: [&[u8]; 5] = [
    b".gitmodules",
    b".gitattributes",
    b".gitignore",
    b".mailmap",
    b".lfsconfig",
];
/// Their NTFS short names: the first six letters, or git's four hash digits.
const SHORT: [&str; 8] = [
    "gitmod~", "gitatt~", "gitign~", "mailma~", "lfscon~", "gi7eba~", "gi7d29~", "gi250a~",
];

/// Says whether git, on some system, takes `name` for a file it obeys.
pub fn is_git_control(name: &[u8]) -> bool {
    GIT_CONTROL.contains(&folded(name).as_slice()) || is_short(name)
}

/// A name as case-folding systems with short names and ignorable characters compare it.
fn folded(name: &[u8]) -> Vec<u8> {
    let visible = strip_ignorable(name);
    let stem = visible.split(|&b| b == b':').next().unwrap_or_default();
    let end = stem
        .iter()
        .rposition(|&b| b != b'.' && b != b' ')
        .map_or(0, |at| at + 1);
    stem[..end].to_ascii_lowercase()
}

fn is_short(name: &[u8]) -> bool {
    let name = folded(name);
    let Ok(name) = std::str::from_utf8(&name) else {
        return false;
    };
    SHORT.iter().any(|short| {
        let rest = name.strip_prefix(short);
        rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    })
}

pub(super) fn judge(change: &Proposed, facts: &Facts<'_>, out: &mut Vec<MergeRefusal>) {
    let path = &change.path;
    let mut refuse = |rule, reason: String, hint: &str| {
        out.push(MergeRefusal::at(rule, path, reason, hint));
    };
    if path.components().any(is_git_alias) {
        let reason = "some system takes a part of it for git's own directory".to_owned();
        refuse("git-directory", reason, "rename it");
    }
    let disguised = GIT_READ.contains(&folded(path.name()).as_slice()) || is_short(path.name());
    if disguised && !GIT_READ.contains(&path.name()) {
        let reason = "some system takes it for a file that git obeys".to_owned();
        refuse("git-disguise", reason, "rename it");
    }
    if disguised && change.target.is_some() {
        let reason = "git follows no symlink there, and other tools do".to_owned();
        refuse("git-control-link", reason, "make it a regular file");
    }
    if !change.introduced() {
        return;
    }
    if path.components().next() == Some(b".govfs") {
        let reason = "`.govfs` is where sessions talk to govfs".to_owned();
        refuse("reserved", reason, "rename it");
    }
    match new_part(path, &facts.before) {
        Ok(part) => {
            for (rule, reason) in letters(part) {
                refuse(rule, reason, "rename it with visible letters");
            }
        }
        Err(why) => refuse("unreadable", why, "repair the repository and merge again"),
    }
    match embedded(path, facts) {
        Ok(None) => {}
        Ok(Some(dir)) => {
            let reason = format!("it makes `{dir}` a git repository that git enters");
            refuse(
                "embedded-repository",
                reason,
                "keep it packed in an archive",
            );
        }
        Err(why) => refuse("unreadable", why, "repair the repository and merge again"),
    }
}

/// Returns the part of a path that the tip does not have yet.
fn new_part<'a>(path: &'a RepoPath, before: &View<'_>) -> Result<&'a [u8], String> {
    let mut known = 0;
    for dir in path.ancestors() {
        if (before.node)(&dir)?.is_none() {
            break;
        }
        known = dir.as_bytes().len() + 1;
    }
    Ok(&path.as_bytes()[known..])
}

/// Finds letters that hide, reorder or control.
fn letters(name: &[u8]) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    let mut note = |rule, reason: String| {
        if !out.iter().any(|(known, _)| *known == rule) {
            out.push((rule, reason));
        }
    };
    for chunk in name.utf8_chunks() {
        for letter in chunk.valid().chars() {
            let code = u32::from(letter);
            match letter {
                '\u{2028}' | '\u{2029}' => {
                    note("control-character", format!("U+{code:04X} breaks lines"));
                }
                _ if letter.is_control() => {
                    let reason = format!("U+{code:04X} is a control character");
                    note("control-character", reason);
                }
                '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}' => {
                    let reason = format!("U+{code:04X} changes the order in which text is shown");
                    note("bidi-character", reason);
                }
                '\u{ad}'
                | '\u{200b}'
                | '\u{2060}'..='\u{2064}'
                | '\u{feff}'
                | '\u{e0000}'..='\u{e007f}' => {
                    note("invisible-character", format!("U+{code:04X} is not shown"));
                }
                _ => {}
            }
        }
    }
    out
}

/// Returns the directory that the new file `path` completes to a git repository.
///
/// Git enters a directory with `HEAD` and either `objects` and `refs`, or a
/// `commondir` that says where those are.
fn embedded(path: &RepoPath, facts: &Facts<'_>) -> Result<Option<RepoPath>, String> {
    let above = std::iter::once(RepoPath::root()).chain(path.ancestors());
    for dir in above {
        let start = if dir.is_root() {
            0
        } else {
            dir.as_bytes().len() + 1
        };
        let rest = &path.as_bytes()[start..];
        let first = rest.split(|&b| b == b'/').next().unwrap_or_default();
        let first = first.to_ascii_lowercase();
        let telling: [&[u8]; 4] = [b"head", b"objects", b"refs", b"commondir"];
        if telling.contains(&first.as_slice())
            && is_repository(&dir, &facts.after)?
            && !is_repository(&dir, &facts.before)?
        {
            return Ok(Some(dir));
        }
    }
    Ok(None)
}

fn is_repository(dir: &RepoPath, view: &View<'_>) -> Result<bool, String> {
    let mut found = (false, false, false, false);
    for name in (view.names)(dir)? {
        let folder = || -> Result<bool, String> {
            let path = dir.join(&name).map_err(|error| error.to_string())?;
            let node = (view.node)(&path)?;
            // A link may lead to such a directory.
            Ok(matches!(node, Some(Node::Directory | Node::Symlink(_))))
        };
        match name.to_ascii_lowercase().as_slice() {
            b"head" => found.0 = true,
            b"objects" => found.1 |= folder()?,
            b"refs" => found.2 |= folder()?,
            b"commondir" => found.3 = true,
            _ => {}
        }
    }
    Ok(found.0 && (found.3 || found.1 && found.2))
}

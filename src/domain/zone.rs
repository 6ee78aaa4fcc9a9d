//! Zones: what a path is, before anybody asks who may write it.
//!
//! Owns: the order of the zones (reserved, control, gitdir, governed, transient,
//! scratch), the names by which programs save a claimed file atomically, and
//! which names git itself writes in its directory. Pure: what the base tracks
//! and ignores and what is claimed are questions asked of the caller.
//! Invariant: a name that no rule knows is governed, so it needs a claim.

use crate::domain::path::RepoPath;
use crate::domain::path::is_git_alias;

#[cfg(test)]
mod tests;

/// The longest suffix after the dot of a derived transient name.
const SUFFIX_MAX: usize = 40;
const TARGET: &[u8] = b"target";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    Governed,
    Transient,
    Scratch,
    Gitdir,
    Control,
    Reserved,
}

impl Zone {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Governed => "governed",
            Self::Transient => "transient",
            Self::Scratch => "scratch",
            Self::Gitdir => "gitdir",
            Self::Control => "control",
            Self::Reserved => "reserved",
        }
    }
}

/// What the classification has to ask.
pub trait Facts {
    type Error;
    /// Says whether the base has the path.
    fn tracked(&self, path: &RepoPath) -> Result<bool, Self::Error>;
    /// Says whether the base's ignore rules or the charter's scratch list name the path.
    fn ignored(&self, path: &RepoPath, is_dir: bool) -> Result<bool, Self::Error>;
    /// Says whether a write to the path would be allowed as far as claims go.
    fn claimed(&self, path: &RepoPath) -> bool;
    /// Says whether a governed file stands at the path, or a claim names it literally.
    fn present(&self, path: &RepoPath) -> bool;
    /// Returns a claimed file that stands, or may stand, directly in the directory.
    fn claimed_in(&self, dir: &RepoPath) -> Option<RepoPath>;
    /// Says whether the path is no name to save under: somebody else's, or on a list
    /// of the charter's (protected, sensitive).
    fn guarded(&self, path: &RepoPath) -> bool {
        let _ = path;
        false
    }
    /// Says whether the charter's own list of transient names has it.
    fn extra(&self, name: &[u8]) -> bool {
        let _ = name;
        false
    }
}

/// Returns the zone of a path by its name alone, where the name decides.
pub fn by_name(path: &RepoPath) -> Option<Zone> {
    let mut parts = path.components();
    match parts.next() {
        Some(b".git") => return Some(Zone::Gitdir),
        Some(b".govfs") => return Some(Zone::Control),
        _ => {}
    }
    path.components()
        .any(is_git_alias)
        .then_some(Zone::Reserved)
}

/// Returns the zone of a path that is to be made, and for a transient one the
/// claimed path that it saves.
pub fn classify<F: Facts>(
    path: &RepoPath,
    is_dir: bool,
    facts: &F,
) -> Result<(Zone, Option<RepoPath>), F::Error> {
    if let Some(zone) = by_name(path) {
        return Ok((zone, None));
    }
    if facts.tracked(path)? {
        return Ok((Zone::Governed, None));
    }
    let ignored = facts.ignored(path, is_dir)?;
    if is_dir && !ignored && becomes_target(path, facts)? {
        return Ok((Zone::Scratch, None));
    }
    if !ignored && facts.claimed(path) {
        return Ok((Zone::Governed, None));
    }
    let may_save = !is_dir && !facts.guarded(path);
    if may_save && let Some(saves) = transient_for(path, ignored, facts)? {
        return Ok((Zone::Transient, Some(saves)));
    }
    let zone = if ignored {
        Zone::Scratch
    } else {
        Zone::Governed
    };
    Ok((zone, None))
}

/// Says whether a directory is one that cargo makes to rename it to `target`, which
/// so comes to be whole or not at all: `target` + 6 alnum, beside a `Cargo.toml`.
fn becomes_target<F: Facts>(path: &RepoPath, facts: &F) -> Result<bool, F::Error> {
    let tail = path.name().strip_prefix(TARGET).unwrap_or_default();
    if tail.len() != 6 || !tail.iter().all(u8::is_ascii_alphanumeric) || facts.present(path) {
        return Ok(false);
    }
    let Some(dir) = path.parent() else {
        return Ok(false);
    };
    let (Ok(target), Ok(crate_file)) = (dir.join(TARGET), dir.join(b"Cargo.toml")) else {
        return Ok(false);
    };
    let crate_there = facts.tracked(&crate_file)? || facts.present(&crate_file);
    Ok(crate_there && !facts.tracked(&target)? && facts.ignored(&target, true)?)
}

/// Returns the claimed path that a transient name saves: the file it derives
/// from, or for an anonymous name some claimed file of the directory. An ignored
/// name (`x.o` beside nothing called `x`) saves only what is there.
fn transient_for<F: Facts>(
    path: &RepoPath,
    ignored: bool,
    facts: &F,
) -> Result<Option<RepoPath>, F::Error> {
    let Some(dir) = path.parent() else {
        return Ok(None);
    };
    if !dir.is_root() && facts.ignored(&dir, true)? {
        return Ok(None);
    }
    let name = path.name();
    for source in derived_from(name) {
        let Ok(candidate) = dir.join(source) else {
            continue;
        };
        if facts.claimed(&candidate)
            && (!ignored || facts.present(&candidate))
            && !facts.ignored(&candidate, false)?
        {
            return Ok(Some(candidate));
        }
    }
    let anonymous = is_anonymous(name) || facts.extra(name);
    Ok(facts.claimed_in(&dir).filter(|_| anonymous))
}

/// Returns the names from which `name` may derive, by
/// `(.#?|#)?F(~|#|.[^/]{1,40}|[A-Za-z0-9]{6})?` with F not `name` itself.
pub fn derived_from(name: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let prefixes: [&[u8]; 4] = [b"", b".#", b".", b"#"];
    for rest in prefixes.iter().filter_map(|p| name.strip_prefix(*p)) {
        for source in without_suffix(rest) {
            if !source.is_empty() && source != name && !found.contains(&source) {
                found.push(source);
            }
        }
    }
    found
}

fn without_suffix(rest: &[u8]) -> Vec<&[u8]> {
    let mut found = vec![rest];
    if let Some(source) = rest.strip_suffix(b"~").or_else(|| rest.strip_suffix(b"#")) {
        found.push(source);
    }
    for at in (0..rest.len()).filter(|&at| rest[at] == b'.') {
        let tail = rest.len() - at - 1;
        if (1..=SUFFIX_MAX).contains(&tail) {
            found.push(&rest[..at]);
        }
    }
    if let Some((source, tail)) = rest.split_at_checked(rest.len().saturating_sub(6))
        && tail.len() == 6
        && tail.iter().all(u8::is_ascii_alphanumeric)
    {
        found.push(source);
    }
    found
}

/// Says whether a name is one that programs use for a nameless temporary file.
pub fn is_anonymous(name: &[u8]) -> bool {
    let tail = |prefix: &[u8]| name.strip_prefix(prefix);
    let all =
        |rest: &[u8], len: usize, ok: fn(&u8) -> bool| rest.len() == len && rest.iter().all(ok);
    let alnum = u8::is_ascii_alphanumeric;
    let lower: fn(&u8) -> bool = |b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_';
    tail(b"sed").is_some_and(|rest| all(rest, 6, alnum))
        || tail(b"XX").is_some_and(|rest| all(rest, 6, alnum))
        || tail(b"tmp").is_some_and(|rest| all(rest, 8, lower))
        || tail(b".tmp-").is_some_and(is_pid_and_hex)
        || tail(b".tmp").is_some_and(|rest| all(rest, 6, alnum))
        || is_vim_probe(name)
        || (name.len() > 1 && name.ends_with(b"~"))
}

fn is_pid_and_hex(rest: &[u8]) -> bool {
    let Some(dash) = rest.iter().position(|&b| b == b'-') else {
        return false;
    };
    let (pid, hex) = (&rest[..dash], &rest[dash + 1..]);
    !pid.is_empty()
        && pid.iter().all(u8::is_ascii_digit)
        && hex.len() == 8
        && hex.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// vim asks whether it may make files by making `4913`, then 123 more at a time.
fn is_vim_probe(name: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(name) else {
        return false;
    };
    name.len() <= 5
        && !name.starts_with(b"0")
        && name.iter().all(u8::is_ascii_digit)
        && text
            .parse::<u32>()
            .is_ok_and(|number| number >= 4913 && (number - 4913) % 123 == 0)
}

/// What may happen to a name inside the private git directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GitdirRule {
    /// git writes it.
    Writable,
    /// govfs put it there; it is read, never changed.
    Provided,
    /// Nothing of that name may be made.
    Refused,
}

/// Decides a path inside `.git` (empty for the directory itself).
pub fn gitdir_rule(inside: &[u8]) -> GitdirRule {
    let mut parts = inside.splitn(2, |&b| b == b'/');
    let first = parts.next().unwrap_or_default();
    let rest = parts.next();
    if inside.split(|&b| b == b'/').skip(1).any(is_git_alias) {
        return GitdirRule::Refused;
    }
    match (first, rest) {
        (b"", _) | (b"logs" | b"refs" | b"objects" | b"info", None) => GitdirRule::Provided,
        (b"objects", Some(rest)) => objects_rule(rest),
        (b"info", Some(rest)) => info_rule(rest),
        (b"logs" | b"refs", Some(_)) => GitdirRule::Writable,
        (b"rebase-merge" | b"rebase-apply" | b"sequencer" | b"rr-cache" | b"lfs", _) => {
            GitdirRule::Writable
        }
        (b"config" | b"commondir" | b"gitdir" | b"description", None) => GitdirRule::Provided,
        // git takes this lock, and puts it in place, even where it has nothing to change
        // (renaming a branch); the mount lets only the very same bytes take the place.
        (b"config.lock", None) => GitdirRule::Writable,
        (name, None) if top_file(name) => GitdirRule::Writable,
        _ => GitdirRule::Refused,
    }
}

fn objects_rule(rest: &[u8]) -> GitdirRule {
    match rest {
        b"info" => GitdirRule::Provided,
        _ if rest.starts_with(b"info/alternates") || rest.starts_with(b"info/http-alternates") => {
            if rest == b"info/alternates" {
                GitdirRule::Provided
            } else {
                GitdirRule::Refused
            }
        }
        _ => GitdirRule::Writable,
    }
}

fn info_rule(rest: &[u8]) -> GitdirRule {
    match rest {
        b"exclude" => GitdirRule::Provided,
        b"refs" | b"refs.lock" => GitdirRule::Writable,
        _ if rest.starts_with(b"refs_") => GitdirRule::Writable,
        _ => GitdirRule::Refused,
    }
}

/// Says whether git makes a file of that name at the top of its directory.
fn top_file(name: &[u8]) -> bool {
    let stem = name.strip_suffix(b".lock").unwrap_or(name);
    let known: [&[u8]; 24] = [
        b"HEAD",
        b"index",
        b"shallow", // made anew at each start; git's gc writes it as it was
        b"packed-refs",
        b"packed-refs.new",
        b"ORIG_HEAD",
        b"FETCH_HEAD",
        b"CHERRY_PICK_HEAD",
        b"REVERT_HEAD",
        b"REBASE_HEAD",
        b"AUTO_MERGE",
        b"COMMIT_EDITMSG",
        b"TAG_EDITMSG",
        b"NOTES_EDITMSG",
        b"SQUASH_MSG",
        b"EDIT_DESCRIPTION",
        b"ADD_EDIT.patch",
        b"addp-hunk-edit.diff",
        b"gc.pid",
        b"gc.log",
        b"maintenance",
        b"MERGE_RR",
        b"RENAMED-REF",
        b"rebased-patches",
    ];
    let starts: [&[u8]; 6] = [
        b"MERGE_",
        b"BISECT_",
        b"NOTES_MERGE_",
        b"sharedindex.",
        b"index.stash.",
        b"next-index-",
    ];
    known.contains(&stem) || starts.iter().any(|start| stem.starts_with(start))
}

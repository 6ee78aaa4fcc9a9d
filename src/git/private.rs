//! The agent's private git directory: what stands at `.git` in its mount.
//!
//! Owns: making it, in a time that does not grow with the repository, and the
//! prepared index. It has its own HEAD, refs, index, stash and objects; the
//! repository's objects come through `objects/info/alternates`, read-only. The
//! files that govfs provides (config, alternates, exclude, shallow) are written
//! anew at each start; what the agent's git wrote is never touched. Never writes
//! to the operator's repository, asks git for nothing but its version.

mod index;
mod messages;
mod monitor;
pub(super) mod sha1;
mod template;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;

use git2::Reference;
use git2::Repository;
use tempfile::NamedTempFile;

use crate::domain::base::Oid;
use crate::domain::convert::AutoCrlf;
use crate::domain::convert::Eol;
use crate::domain::convert::EolConfig;
use crate::domain::names::AgentName;

pub use index::prepare_index;
pub use index::relocate_index;
pub use messages::own_messages;
pub use monitor::may_be_told;

/// What `info/exclude` says unless told otherwise. It should not change while a
/// session lives: git drops its whole untracked cache when it does.
pub const EXCLUDE: &[u8] = b"/.govfs/\n";

/// How many of the repository's refs are shown; more would slow every start.
const REFS_MAX: usize = 10_000;
/// How git and govfs keep each other from `packed-refs`.
const PACKED_LOCK: &str = "packed-refs.lock";
/// How deep alternates of alternates are followed, as in git.
const ALTERNATES_DEPTH_MAX: usize = 5;

#[derive(Debug, thiserror::Error)]
pub enum PrivateError {
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path} is not a directory of its own")]
    NotADirectory { path: PathBuf },
    #[error("{name} is not a name for a branch")]
    BranchName { name: String },
    #[error("cannot read the repository's refs: {reason}")]
    Refs { reason: String },
    #[error("cannot read the base for the index: {source}")]
    Base { source: io::Error },
    #[error("the index is damaged")]
    Index,
}

/// What a private git directory is made from.
#[derive(Clone, Debug)]
pub struct PrivateSpec<'a> {
    /// The operator's common directory.
    pub common_dir: &'a Path,
    /// Where the repository's object directories are seen from inside the mount.
    pub objects: &'a [PathBuf],
    pub base: Oid,
    /// The branch that HEAD is on, without `refs/heads/`.
    pub branch: &'a str,
    pub agent: &'a AgentName,
    /// The absolute path of `cat`, which git runs to ask what changed; nothing where it has
    /// to look for itself.
    pub cat: Option<&'a Path>,
    pub eol: EolConfig,
    /// The text of `info/exclude`.
    pub exclude: &'a [u8],
    /// Where it is kept, out of the agent's reach, which refs of the repository it was shown.
    pub shown: &'a Path,
}

/// Makes the private git directory `dir`, or brings an older one up to date.
pub fn prepare(dir: &Path, spec: &PrivateSpec<'_>) -> Result<(), PrivateError> {
    for name in [
        "",
        "objects",
        "objects/info",
        "objects/pack",
        "info",
        "refs",
        "refs/heads",
        "refs/tags",
        "logs",
    ] {
        own_directory(&dir.join(name))?;
    }
    write(dir, "config", config_text(spec).as_bytes())?;
    write(
        dir,
        "objects/info/alternates",
        &alternates_text(spec.objects),
    )?;
    write(dir, "info/exclude", spec.exclude)?;
    match fs::read(spec.common_dir.join("shallow")) {
        Ok(text) => write(dir, "shallow", &text)?,
        Err(_) => remove(&dir.join("shallow"))?,
    }
    if fs::symlink_metadata(dir.join("HEAD")).is_ok() {
        // Nobody works here now: what a server that was killed left behind is in the way.
        remove(&dir.join(PACKED_LOCK))?;
        return drop_pruned(dir, spec.common_dir, spec.shown).map(drop);
    }
    let refs = refs_text(spec)?;
    fs::write(spec.shown, &refs).map_err(failed(spec.shown))?;
    write(dir, "packed-refs", refs.as_bytes())?;
    // Last, as its presence says that the directory is complete.
    write(
        dir,
        "HEAD",
        format!("ref: refs/heads/{}\n", spec.branch).as_bytes(),
    )
}

/// Returns the repository's object directories: its own and every alternate.
pub fn object_dirs(common_dir: &Path) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    add_object_dir(&common_dir.join("objects"), 0, &mut dirs);
    dirs
}

fn add_object_dir(dir: &Path, depth: usize, dirs: &mut Vec<PathBuf>) {
    let Ok(dir) = dir.canonicalize() else {
        return;
    };
    if depth > ALTERNATES_DEPTH_MAX || dirs.contains(&dir) {
        return;
    }
    dirs.push(dir.clone());
    let text = fs::read(dir.join("info/alternates")).unwrap_or_default();
    for line in text.split(|&b| b == b'\n') {
        if !line.is_empty() && line[0] != b'#' {
            add_object_dir(&dir.join(OsStr::from_bytes(line)), depth + 1, dirs);
        }
    }
}

/// Makes a directory; a symlink in its place would lead a write elsewhere.
fn own_directory(path: &Path) -> Result<(), PrivateError> {
    match fs::create_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            match fs::symlink_metadata(path) {
                Ok(data) if data.is_dir() => Ok(()),
                _ => Err(PrivateError::NotADirectory {
                    path: path.to_path_buf(),
                }),
            }
        }
        Err(source) => Err(failed(path)(source)),
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> PrivateError {
    let path = path.to_path_buf();
    move |source| PrivateError::Write {
        path: path.clone(),
        source,
    }
}

/// Replaces a file, following no symlink.
fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), PrivateError> {
    let path = dir.join(name);
    let error = failed(&path);
    let place = path.parent().unwrap_or(dir);
    let mut file = NamedTempFile::new_in(place).map_err(&error)?;
    io::Write::write_all(&mut file, bytes).map_err(&error)?;
    file.persist(&path)
        .map_err(|failure| error(failure.error))?;
    Ok(())
}

fn remove(path: &Path) -> Result<(), PrivateError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path)(error)),
        _ => Ok(()),
    }
}

fn alternates_text(objects: &[PathBuf]) -> Vec<u8> {
    let lines = objects.iter().map(|dir| dir.as_os_str().as_bytes());
    lines.flat_map(|line| [line, b"\n"].concat()).collect()
}

fn config_text(spec: &PrivateSpec<'_>) -> String {
    let autocrlf = match spec.eol.autocrlf {
        AutoCrlf::False => "false",
        AutoCrlf::True => "true",
        AutoCrlf::Input => "input",
    };
    let eol = match spec.eol.eol {
        Eol::Lf => "lf",
        Eol::Crlf => "crlf",
    };
    // What git asks with every command: a program and its file, then a comment,
    // as git adds arguments of its own.
    let fsmonitor = spec.cat.map_or_else(
        || "false".to_owned(),
        |cat| quoted(&format!("{} .govfs/changed #", cat.display())),
    );
    let agent = spec.agent;
    let sections: [(&str, &[(&str, &str)]); 11] = [
        (
            "core",
            &[
                ("repositoryformatversion", "0"),
                ("bare", "false"),
                ("filemode", "true"),
                ("symlinks", "true"),
                ("ignorecase", "false"),
                ("logallrefupdates", "true"),
                ("fsmonitor", &fsmonitor),
                ("fsmonitorHookVersion", "2"),
                ("untrackedCache", "true"),
                ("hooksPath", "/dev/null"),
                // The mount shows what the base's own files say, on every machine.
                ("excludesFile", "/dev/null"),
                ("attributesFile", "/dev/null"),
                ("autocrlf", autocrlf),
                ("eol", eol),
                ("safecrlf", "false"),
            ],
        ),
        (
            "user",
            &[
                ("name", agent.as_str()),
                ("email", &format!("{agent}@govfs.invalid")),
            ],
        ),
        // These commits are drafts; the merge makes the one that counts.
        ("commit", &[("gpgSign", "false")]),
        ("tag", &[("gpgSign", "false")]),
        // Tracking would be written to this file.
        ("branch", &[("autoSetupMerge", "false")]),
        // Nothing in the background, and no work that grows with the repository.
        (
            "gc",
            &[
                ("auto", "0"),
                ("autoDetach", "false"),
                ("writeCommitGraph", "false"),
            ],
        ),
        ("maintenance", &[("auto", "false")]),
        ("repack", &[("writeBitmaps", "false")]),
        ("fetch", &[("writeCommitGraph", "false")]),
        ("submodule", &[("recurse", "false")]),
        ("index", &[("version", "4")]),
    ];
    let mut text = String::new();
    for (name, keys) in sections {
        let _ = writeln!(text, "[{name}]");
        for (key, value) in keys {
            let _ = writeln!(text, "\t{key} = {value}");
        }
    }
    text
}

/// Quotes a value of git's configuration.
fn quoted(value: &str) -> String {
    let inner = value.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", inner.replace('\n', "\\n"))
}

/// Does the same for a directory that is in use, behind git's own lock; says whether
/// anything was taken out. Where git holds the lock, another time will do.
pub fn mend_refs(dir: &Path, common_dir: &Path, shown: &Path) -> Result<bool, PrivateError> {
    let lock = dir.join(PACKED_LOCK);
    match fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&lock)
    {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(source) => return Err(failed(&lock)(source)),
    }
    let mended = drop_pruned(dir, common_dir, shown);
    remove(&lock).and(mended)
}

/// Takes out what the session was shown of the repository's refs and is pruned there by
/// now: git would call each of them broken. What the agent made of its refs stays.
fn drop_pruned(dir: &Path, common_dir: &Path, shown: &Path) -> Result<bool, PrivateError> {
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let (shown, now) = (read(shown), read(&dir.join("packed-refs")));
    let shown: BTreeSet<&str> = shown
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let refs = |error: git2::Error| PrivateError::Refs {
        reason: error.message().to_owned(),
    };
    let repository = Repository::open(common_dir).map_err(refs)?;
    let objects = repository.odb().map_err(refs)?;
    let pruned = |line: &&str| {
        let id = line.split(' ').next().map(git2::Oid::from_str);
        shown.contains(*line) && matches!(id, Some(Ok(id)) if !objects.exists(id))
    };
    let gone: BTreeSet<&str> = now.lines().filter(pruned).collect();
    if gone.is_empty() {
        return Ok(false);
    }
    let mut text = String::new();
    let mut dropped = false;
    for line in now.lines() {
        // A line after a tag's says what the tag points to.
        dropped = gone.contains(line) || (dropped && line.starts_with('^'));
        if !dropped {
            let _ = writeln!(text, "{line}");
        }
    }
    write(dir, "packed-refs", text.as_bytes()).map(|()| true)
}

/// Lists the repository's branches, tags and remote branches, and the session's own.
fn refs_text(spec: &PrivateSpec<'_>) -> Result<String, PrivateError> {
    let own = format!("refs/heads/{}", spec.branch);
    if !Reference::is_valid_name(&own) {
        return Err(PrivateError::BranchName {
            name: spec.branch.to_owned(),
        });
    }
    let mut refs = shared_refs(spec.common_dir).map_err(|error| PrivateError::Refs {
        reason: error.message().to_owned(),
    })?;
    refs.retain(|name, _| !stands_in_the_way(name, &own));
    refs.insert(own, spec.base);
    let mut text = "# pack-refs with: sorted \n".to_owned();
    for (name, oid) in refs {
        let _ = writeln!(text, "{oid} {name}");
    }
    Ok(text)
}

/// One name cannot be a ref and a directory of refs.
fn stands_in_the_way(name: &str, own: &str) -> bool {
    let beneath = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
    beneath(name, own) || beneath(own, name)
}

fn shared_refs(common_dir: &Path) -> Result<BTreeMap<String, Oid>, git2::Error> {
    let repository = Repository::open(common_dir)?;
    let mut refs = BTreeMap::new();
    for reference in repository.references()?.take(REFS_MAX) {
        // A ref that cannot be read is not shown; the agent does not depend on it.
        let Ok(reference) = reference else { continue };
        let (Ok(name), Some(target)) = (reference.name(), reference.target()) else {
            continue;
        };
        let shown = ["refs/heads/", "refs/tags/", "refs/remotes/"];
        if let Ok(id) = target.as_bytes().try_into()
            && shown.iter().any(|start| name.starts_with(start))
        {
            refs.insert(name.to_owned(), Oid(id));
        }
    }
    Ok(refs)
}

#[cfg(test)]
mod tests;

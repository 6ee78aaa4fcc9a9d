//! `init`: the charter, the ledger, the key. Safe to repeat.
//!
//! Order: everything that can be refused is looked at before anything is made;
//! then the store, the charter's file and commit, the key, and last the entries.
//! A crash in between leaves what the next `init` picks up.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::app::clock;
use crate::app::failure::Failure;
use crate::app::keys;
use crate::app::site::{CHARTER, STORE, bad_charter, charter_set, charter_text};
use crate::app::upgrade;
use crate::domain::base::Oid;
use crate::domain::charter::{Charter, DEFAULT_CHARTER};
use crate::domain::checkpoint::{Origin, PublicKey};
use crate::domain::command::Need;
use crate::domain::digest::Digest;
use crate::domain::event::{Ancestor, CharterSource, Draft, Event, Forked, KeySet};
use crate::domain::state::{Kind, State};
use crate::git::base::file_system;
use crate::git::repo::Repo;
use crate::store::keys::{Keys, fresh_origin};
use crate::store::ledger::{Ledger, LedgerError, Turn};

/// What the charter is when nobody wrote one.
const DEFAULT: &str = DEFAULT_CHARTER;
/// The merge target that the default charter names.
const DEFAULT_TARGET: &str = "main";
const MESSAGE: &str = "governor.md: the charter that governs agents here\n";

#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub no_commit: bool,
    pub new_origin: bool,
}

/// What `init` did.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is told on its own")]
pub struct Report {
    pub store: PathBuf,
    pub origin: Origin,
    pub public: PublicKey,
    pub charter: Digest,
    /// The charter's file was written.
    pub wrote: bool,
    pub commit: Option<Oid>,
    /// Why it was not committed, where it was not.
    pub uncommitted: Option<String>,
    pub created: bool,
    pub new_key: bool,
    pub forked: bool,
}

/// The charter's text and where it stands.
struct Found {
    text: Vec<u8>,
    /// Nobody wrote it: the default goes into the worktree.
    write: bool,
    /// It is at the merge target's tip.
    committed: Option<Oid>,
    target: String,
}

pub fn init(dir: &Path, options: Options) -> Result<Report, Failure> {
    let repo = Repo::discover(dir)?;
    let store = repo.common_dir().join(STORE);
    refuse_unsafe_store(repo.common_dir())?;
    let found = find_charter(&repo)?;
    if why_not_committed(&repo, &found, options.no_commit).is_none() && found.committed.is_none() {
        repo.can_stage()?;
    }
    let keys = Keys::new(keys::config_dir()?);
    upgrade::refuse_orphans(&store)?;
    let mut ledger = match Ledger::create(&store) {
        Err(LedgerError::Older { .. }) => upgrade::open(&store)?,
        other => other?,
    };
    let before = ledger.state(&[Need::All(Kind::Key)])?;
    let created = before.meta.origin.is_none();
    let moved = is_elsewhere(&repo, &before)?;
    if moved && !options.new_origin {
        return Err(
            Failure::refused("this ledger was copied here from another git directory")
                .hint("let the copy go on as a ledger of its own: govfs init --new-origin"),
        );
    }
    if found.write {
        write_charter(&repo, &found.text)?;
    }
    let (commit, uncommitted) = commit_charter(&repo, &found, options.no_commit)?;
    let forks = moved || (options.new_origin && !created);
    let origin = match (&before.meta.origin, forks) {
        (Some(origin), false) => origin.clone(),
        _ => fresh_origin()?,
    };
    let (public, new_key) = keys::own_or_new(&keys, &origin, &before)?;
    let source = match commit.or(found.committed) {
        Some(commit) => CharterSource::Commit(commit),
        None => CharterSource::Init,
    };
    let charter = charter_set(&found.text, source)?;
    let digest = charter.sha256;
    let mut turn = ledger.turn(&clock::now)?;
    turn.load(&[Need::All(Kind::Key)])?;
    record_key(&mut turn, &repo, &origin, public, &found.target, forks)?;
    if turn.state().meta.charter != Some(digest) {
        turn.append(&Draft::new(Event::Charter(charter)))?;
    }
    turn.commit()?;
    Ok(Report {
        store,
        origin,
        public,
        charter: digest,
        wrote: found.write,
        commit,
        uncommitted,
        created,
        new_key,
        forked: forks,
    })
}

/// Refuses a store where file locks or distinct names cannot be relied on.
fn refuse_unsafe_store(dir: &Path) -> Result<(), Failure> {
    let system =
        file_system(dir).map_err(|error| Failure::failed(format!("{}: {error}", dir.display())))?;
    let shown = dir.display();
    if system.network {
        return Err(Failure::machine(format!(
            "{shown} is on a network file system ({}), where SQLite's locks cannot be relied on",
            system.kind
        ))
        .hint("keep the repository on a local disk"));
    }
    if system.folds_case {
        return Err(Failure::machine(format!(
            "{shown} is on a file system that takes HEAD and head for one file"
        ))
        .hint("keep the repository on a case-sensitive file system"));
    }
    Ok(())
}

fn is_elsewhere(repo: &Repo, state: &State) -> Result<bool, Failure> {
    let here = repo.place().map_err(Failure::failed)?;
    Ok(state
        .meta
        .place
        .as_ref()
        .is_some_and(|place| (place.device, place.inode) != (here.device, here.inode)))
}

/// Looks for the charter at the merge target's tip, then in the worktree; else it is the default.
fn find_charter(repo: &Repo) -> Result<Found, Failure> {
    let file = repo.workdir().map(|dir| dir.join(CHARTER));
    let on_disk = match file.as_ref().map(fs::read) {
        Some(Ok(text)) => Some(text),
        Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Failure::failed(format!("{CHARTER}: {error}")));
        }
        _ => None,
    };
    let write = on_disk.is_none();
    let text = match &on_disk {
        Some(text) => text.clone(),
        None => default_text(repo).into_bytes(),
    };
    let target = parse(&text)?.merge.target.clone();
    let tip = repo.tip(&target)?;
    let at_tip = match tip {
        Some(tip) => repo.file_at(tip, CHARTER)?,
        None => None,
    };
    match (tip, at_tip) {
        // What is committed is in force, whatever the worktree says.
        (Some(tip), Some(text)) => {
            parse(&text)?;
            Ok(Found {
                text,
                write: false,
                committed: Some(tip),
                target,
            })
        }
        _ => Ok(Found {
            text,
            write: write && file.is_some(),
            committed: None,
            target,
        }),
    }
}

fn parse(text: &[u8]) -> Result<Charter, Failure> {
    let text = charter_text(CHARTER, text)?;
    Charter::parse(text).map_err(|errors| bad_charter(CHARTER, &errors))
}

/// The default charter, merging to the branch that this repository really has.
fn default_text(repo: &Repo) -> String {
    let has_main = repo.tip(DEFAULT_TARGET).is_ok_and(|tip| tip.is_some());
    match repo.head_branch() {
        Some(branch) if branch != DEFAULT_TARGET && !has_main => retarget(&branch),
        _ => DEFAULT.to_owned(),
    }
}

/// Names another merge target in the default charter, if that leaves it a charter.
fn retarget(branch: &str) -> String {
    let line = |name: &str| format!("target = \"{name}\"");
    let text = DEFAULT.replacen(&line(DEFAULT_TARGET), &line(branch), 1);
    match Charter::parse(&text) {
        Ok(charter) if charter.merge.target == branch => text,
        _ => DEFAULT.to_owned(),
    }
}

fn write_charter(repo: &Repo, text: &[u8]) -> Result<(), Failure> {
    let Some(dir) = repo.workdir() else {
        return Ok(());
    };
    let path = dir.join(CHARTER);
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|mut file| file.write_all(text));
    written.map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
}

/// Commits the charter where that brings it into force: on the merge target, when HEAD names it.
fn commit_charter(
    repo: &Repo,
    found: &Found,
    no_commit: bool,
) -> Result<(Option<Oid>, Option<String>), Failure> {
    if found.committed.is_some() {
        return Ok((None, None));
    }
    if let Some(why) = why_not_committed(repo, found, no_commit) {
        return Ok((None, Some(why)));
    }
    let commit = repo.commit_file(CHARTER, &found.text, MESSAGE)?;
    Ok((Some(commit), None))
}

/// Says why a charter that is not committed stays so.
fn why_not_committed(repo: &Repo, found: &Found, no_commit: bool) -> Option<String> {
    if no_commit {
        return Some("as asked".to_owned());
    }
    let head = repo.head_branch();
    if head.as_deref() == Some(&found.target) {
        return None;
    }
    let here = head.map_or("HEAD is detached".to_owned(), |head| {
        format!("HEAD is {head}")
    });
    Some(format!("the merge target is {}, {here}", found.target))
}

/// Records the ledger's identity, a copy's new one, or a key that was not known.
fn record_key(
    turn: &mut Turn<'_>,
    repo: &Repo,
    origin: &Origin,
    public: PublicKey,
    target: &str,
    forks: bool,
) -> Result<(), Failure> {
    let place = repo.place().map_err(Failure::failed)?;
    let meta = turn.state().meta.clone();
    let event = match (meta.origin, meta.key) {
        (Some(old), _) if forks => {
            let (size, root) = turn.tree();
            let old = Ancestor {
                origin: old,
                size,
                root,
            };
            Event::Fork(Forked {
                origin: origin.clone(),
                old,
                place,
                public,
            })
        }
        (Some(_), previous) => {
            if turn.state().keys.contains_key(&public) {
                return Ok(());
            }
            Event::Key(KeySet {
                origin: origin.clone(),
                public,
                previous,
                signature: None,
                place: None,
                tip: None,
            })
        }
        (None, _) => Event::Key(KeySet {
            origin: origin.clone(),
            public,
            previous: None,
            signature: None,
            place: Some(place),
            tip: repo.tip(target)?,
        }),
    };
    turn.append(&Draft::new(event))?;
    Ok(())
}

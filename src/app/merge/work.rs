//! What a session has written, read from its log and checked.
//!
//! Every line is held against the chain that starts at the session's own entry,
//! and the whole against the ledger's last seal of it. A line that does not
//! verify is an integrity fault that names the entry, and the path where the
//! line still shows one. Entries are handed on one by one: what is kept in memory
//! is what they come to, not the log. Never writes.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};

use crate::app::failure::Failure;
use crate::app::session::Session;
use crate::domain::entry::{Chain, Line, decode};
use crate::domain::layer::Layer;
use crate::domain::layer::paths_of;
use crate::domain::logop::LogOp;
use crate::domain::path::RepoPath;
use crate::domain::proof::Tree;
use crate::store::writelog::{LogLines, read_log};

const VOID: &str = "void";

/// What the entries of a log come to.
#[derive(Debug, Default)]
pub struct Work {
    pub layer: Layer,
    /// Files that were written after their last version.
    unsettled: BTreeSet<RepoPath>,
}

impl Work {
    /// Says whether some file was written after its last version, as far as the log shows.
    pub fn has_unsettled(&self) -> bool {
        !self.unsettled.is_empty()
    }

    fn apply(&mut self, op: &LogOp) {
        self.layer.apply(op);
        let open = &mut self.unsettled;
        match op {
            LogOp::Version { path, .. }
            | LogOp::Recovered { path, .. }
            | LogOp::Unlink { path, .. } => {
                open.remove(path);
            }
            LogOp::Write { path, .. }
            | LogOp::Truncate { path, .. }
            | LogOp::Hole { path, .. }
            | LogOp::Create { path, .. } => {
                open.insert(path.clone());
            }
            LogOp::Rename {
                path, to, exchange, ..
            } => carry(open, path, to, *exchange),
            _ => {}
        }
    }
}

/// Follows what is unsettled through a rename, of a file or of a directory above it.
fn carry(open: &mut BTreeSet<RepoPath>, from: &RepoPath, to: &RepoPath, exchange: bool) {
    let moved: Vec<RepoPath> = take(open, from);
    let back: Vec<RepoPath> = take(open, to);
    open.extend(moved.iter().filter_map(|path| path.rebase(from, to)));
    if exchange {
        open.extend(back.iter().filter_map(|path| path.rebase(to, from)));
    }
}

fn take(open: &mut BTreeSet<RepoPath>, at: &RepoPath) -> Vec<RepoPath> {
    let found: Vec<RepoPath> = open
        .iter()
        .filter(|path| path.starts_with(at))
        .cloned()
        .collect();
    for path in &found {
        open.remove(path);
    }
    found
}

/// Reads the first `count` entries of a session's log. `each` hears of those that were
/// not undone, in order, each with the layer that stood before it.
pub fn read(
    session: &Session,
    count: u64,
    each: &mut dyn FnMut(u64, &LogOp, &Layer),
) -> Result<Work, Failure> {
    let mut work = Work::default();
    if count == 0 {
        return Ok(work);
    }
    // What undoes an entry stands after it, so the log is read twice.
    let undone = undone(session, count)?;
    let mut found = BTreeSet::new();
    verified(session, count, &mut |seq, op| {
        if let LogOp::Void { entry, .. } = op {
            found.insert(*entry);
        }
        if !undone.contains(&seq) {
            each(seq, op, &work.layer);
            work.apply(op);
        }
    })?;
    if found == undone {
        Ok(work)
    } else {
        let id = &session.id;
        Err(
            Failure::integrity(format!("session {id}: its log changed while it was read"))
                .hint("govfs verify says where"),
        )
    }
}

fn lines(session: &Session, count: u64) -> Result<LogLines, Failure> {
    read_log(&session.log()).map_err(|error| match error.kind() {
        ErrorKind::NotFound => missing(session, 0, count),
        _ => unreadable(session, &error),
    })
}

fn unreadable(session: &Session, error: &io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", session.log().display()))
}

/// Returns what later entries undid, as far as the lines can be read: whoever verifies
/// them says what is wrong with the others.
fn undone(session: &Session, count: u64) -> Result<BTreeSet<u64>, Failure> {
    let mut lines = lines(session, count)?;
    let mut undone = BTreeSet::new();
    for _ in 0..count {
        let bytes = lines.read().map_err(|error| unreadable(session, &error))?;
        let Some(Ok(line)) = bytes.map(Line::parse) else {
            break;
        };
        if line.op == VOID
            && let Ok(LogOp::Void { entry, .. }) = decode(&line)
        {
            undone.insert(entry);
        }
    }
    Ok(undone)
}

/// Hands on the first `count` entries, verified.
fn verified(
    session: &Session,
    count: u64,
    each: &mut dyn FnMut(u64, &LogOp),
) -> Result<(), Failure> {
    let mut lines = lines(session, count)?;
    let mut chain = Chain::new(session.row.leaf);
    let mut tree = Tree::new();
    while chain.seq() < count {
        let seq = chain.seq();
        let bytes = lines
            .read()
            .map_err(|error| unreadable(session, &error))?
            .ok_or_else(|| missing(session, seq, count))?;
        let broken =
            |what: &dyn std::fmt::Display| broken(session, seq, path_in(bytes).as_deref(), what);
        let (line, leaf) = chain.push(bytes).map_err(|fault| broken(&fault.broken))?;
        refuse_other(session, &line)?;
        each(seq, &decode(&line).map_err(|fault| broken(&fault))?);
        tree.push(leaf);
    }
    agrees(session, count, &chain, &tree)
}

/// Holds what was read against the ledger's seal of exactly that many entries.
fn agrees(session: &Session, count: u64, chain: &Chain, tree: &Tree) -> Result<(), Failure> {
    let Some(seal) = session
        .row
        .sealed
        .as_ref()
        .filter(|seal| seal.count == count)
    else {
        return Ok(());
    };
    if seal.head == chain.prev() && seal.root == tree.root() {
        return Ok(());
    }
    Err(Failure::integrity(format!(
        "session {}: its first {count} entries are not those that entry {} seals",
        session.id, seal.entry
    ))
    .hint("govfs verify says where"))
}

/// A chain that is whole may still be another session's.
fn refuse_other(session: &Session, line: &Line<'_>) -> Result<(), Failure> {
    let mine =
        line.session == Some(session.id.as_str()) && line.agent == Some(session.agent.as_str());
    if mine {
        return Ok(());
    }
    Err(Failure::integrity(format!(
        "{}:{} says that it is another session's",
        session.id, line.seq
    )))
}

fn missing(session: &Session, have: u64, count: u64) -> Failure {
    Failure::integrity(format!(
        "session {}: {count} entries are sealed, {have} are there",
        session.id
    ))
    .hint("govfs verify says where")
}

fn broken(
    session: &Session,
    seq: u64,
    path: Option<&str>,
    what: &dyn std::fmt::Display,
) -> Failure {
    let about = path.map(|path| format!(" ({path})")).unwrap_or_default();
    Failure::integrity(format!(
        "{}:{seq}{about} does not verify: {what}",
        session.id
    ))
    .hint("govfs verify says where")
}

/// Returns the path that a line speaks of, also where the line itself is not to be trusted.
fn path_in(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let rest = &text[text.find("\"path\":\"")? + 8..];
    let shown = rest.split('"').next()?;
    Some(
        shown
            .chars()
            .filter(char::is_ascii_graphic)
            .take(200)
            .collect(),
    )
}

/// Returns every path that some entry names.
pub fn named(op: &LogOp) -> impl Iterator<Item = &RepoPath> {
    paths_of(op).into_iter().flatten()
}

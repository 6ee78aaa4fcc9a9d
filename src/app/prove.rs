//! `prove`: that one entry, a write included, is covered by a checkpoint; or that one
//! checkpoint continues another.
//!
//! Leaves are hashed from the lines again, never taken from the index, and every
//! proof is verified before it is shown.

use std::path::Path;

use crate::app::failure::Failure;
use crate::app::log::{Name, log_path};
use crate::app::site::Site;
use crate::domain::checkpoint::{Checkpoint, Note};
use crate::domain::command::Need;
use crate::domain::digest::Digest;
use crate::domain::entry::leaf;
use crate::domain::names::SessionId;
use crate::domain::proof::{Stated, consistency, consistent, included, inclusion, root};
use crate::domain::state::{Kind, State};
use crate::store::writelog::read_log;

/// One line's place in one tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inclusion {
    pub line: Vec<u8>,
    pub leaf: Digest,
    pub index: u64,
    pub size: u64,
    pub root: Digest,
    pub hashes: Vec<Digest>,
}

/// The proof for an entry: in the ledger, and for a write first in its sealed log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub checkpoint: Checkpoint,
    /// The write in its log, whose root the proven ledger entry (a seal) states.
    pub write: Option<Inclusion>,
    pub entry: Inclusion,
}

pub fn prove(site: &mut Site, name: &Name, checkpoint: Option<&Path>) -> Result<Proof, Failure> {
    let leaves = ledger_leaves(site)?;
    let state = site.ledger.state(&[Need::All(Kind::Key)])?;
    let checkpoint = match checkpoint {
        Some(path) => read_checkpoint(path, &state)?,
        None => now(&state, &leaves)?,
    };
    let covered = covered(&leaves, &checkpoint)?;
    let (index, write) = match name {
        Name::Ledger(seq) => (*seq, None),
        Name::Session(session, seq) => {
            let (seal, write) = write_proof(site, session, *seq, checkpoint.size)?;
            (seal, Some(write))
        }
    };
    let line = site.ledger.lines()?.line(index)?;
    let line = line.filter(|_| index < checkpoint.size).ok_or_else(|| {
        Failure::missing(format!(
            "the checkpoint covers {} entries, not {name}",
            checkpoint.size
        ))
        .hint("govfs log shows which entries there are; govfs checkpoint signs those of now")
    })?;
    let entry = include(covered, line, index)?;
    Ok(Proof {
        checkpoint,
        write,
        entry,
    })
}

/// Returns the hashes that show that `new` continues `old`.
pub fn prove_consistency(
    site: &mut Site,
    old: &Path,
    new: &Path,
) -> Result<(Checkpoint, Checkpoint, Vec<Digest>), Failure> {
    let leaves = ledger_leaves(site)?;
    let state = site.ledger.state(&[Need::All(Kind::Key)])?;
    let read = |place: &Path| match size_of(place) {
        Some(size) => at_size(&state, &leaves, size),
        None => read_checkpoint(place, &state),
    };
    let (old, new) = (read(old)?, read(new)?);
    covered(&leaves, &old)?;
    let hashes = consistency(covered(&leaves, &new)?, old.size).ok_or_else(|| {
        Failure::usage(format!(
            "the first checkpoint ({}) is newer than the second ({}); give the older one first",
            old.size, new.size
        ))
    })?;
    if consistent(old.stated(), new.stated(), &hashes) {
        Ok((old, new, hashes))
    } else {
        Err(Failure::integrity("the checkpoints are not of one history"))
    }
}

/// A number that names no file is a size: the checkpoint that could be signed of so many entries.
fn size_of(place: &Path) -> Option<u64> {
    let number = place.to_str()?.parse().ok()?;
    (!place.exists()).then_some(number)
}

fn at_size(state: &State, leaves: &[Digest], size: u64) -> Result<Checkpoint, Failure> {
    match usize::try_from(size)
        .ok()
        .and_then(|size| leaves.get(..size))
    {
        Some(leaves) => now(state, leaves),
        None => Err(
            Failure::missing(format!("there are {} entries, not {size}", leaves.len()))
                .hint("govfs log -n 1"),
        ),
    }
}

fn ledger_leaves(site: &mut Site) -> Result<Vec<Digest>, Failure> {
    let mut leaves = Vec::new();
    site.ledger.lines()?.forward(0, &mut |_, bytes| {
        leaves.push(leaf(bytes));
        Ok(true)
    })?;
    Ok(leaves)
}

fn now(state: &State, leaves: &[Digest]) -> Result<Checkpoint, Failure> {
    let Some(origin) = state.meta.origin.clone() else {
        return Err(Failure::missing("this ledger was not finished").hint("govfs init"));
    };
    Ok(Checkpoint {
        origin,
        size: leaves.len() as u64,
        root: root(leaves),
    })
}

fn read_checkpoint(path: &Path, state: &State) -> Result<Checkpoint, Failure> {
    let fault = |what: String| format!("{}: {what}", path.display());
    let bytes = std::fs::read(path).map_err(|error| Failure::missing(fault(error.to_string())))?;
    let note = Note::parse(&bytes).map_err(|error| Failure::integrity(fault(error.to_string())))?;
    if state.keys.keys().any(|key| note.verify(key).is_ok()) {
        Ok(note.claimed().clone())
    } else {
        Err(Failure::integrity(fault(
            "not signed by a key of this ledger's".to_owned(),
        )))
    }
}

/// Returns the leaves that a checkpoint covers, once they give its root.
fn covered<'a>(leaves: &'a [Digest], checkpoint: &Checkpoint) -> Result<&'a [Digest], Failure> {
    let size = usize::try_from(checkpoint.size).unwrap_or(usize::MAX);
    let Some(covered) = leaves.get(..size) else {
        return Err(Failure::integrity(format!(
            "the checkpoint covers {size} entries, {} are there",
            leaves.len()
        )));
    };
    if root(covered) == checkpoint.root {
        Ok(covered)
    } else {
        Err(Failure::integrity(format!(
            "the checkpoint's root is not that of the first {size} entries"
        )))
    }
}

pub(super) fn include(leaves: &[Digest], line: Vec<u8>, index: u64) -> Result<Inclusion, Failure> {
    let found = Inclusion {
        leaf: leaf(&line),
        line,
        index,
        size: leaves.len() as u64,
        root: root(leaves),
        hashes: inclusion(leaves, index)
            .ok_or_else(|| Failure::missing(format!("there is no entry {index}")))?,
    };
    if included(found.leaf, index, found.size, &found.hashes, found.root) {
        Ok(found)
    } else {
        Err(Failure::integrity(format!(
            "entry {index} is not what its leaf says"
        )))
    }
}

/// Finds the first seal within the checkpoint that covers the write, and proves the write in it.
fn write_proof(
    site: &mut Site,
    session: &SessionId,
    seq: u64,
    size: u64,
) -> Result<(u64, Inclusion), Failure> {
    let mut found: Option<(u64, Stated)> = None;
    site.ledger.lines()?.forward(0, &mut |at, bytes| {
        let line = crate::domain::entry::Line::parse(bytes)?;
        if line.op == "seal"
            && line.session == Some(session.as_str())
            && let (Some(count), Some(root)) = (line.natural("count"), line.digest("root"))
            && count > seq
        {
            found = Some((at, Stated { size: count, root }));
        }
        Ok(at + 1 < size && found.is_none())
    })?;
    let Some((at, stated)) = found else {
        return Err(Failure::missing(format!(
            "no seal that the checkpoint covers reaches {session}:{seq}"
        ))
        .hint("govfs checkpoint seals and signs"));
    };
    let path = log_path(site, session);
    let mut lines = read_log(&path)
        .map_err(|error| Failure::missing(format!("{}: {error}", path.display())))?;
    let mut leaves = Vec::new();
    let mut wanted = None;
    while (leaves.len() as u64) < stated.size {
        let Some(bytes) = lines.read().map_err(Failure::failed)? else {
            break;
        };
        if leaves.len() as u64 == seq {
            wanted = Some(bytes.to_vec());
        }
        leaves.push(leaf(bytes));
    }
    if leaves.len() as u64 != stated.size || root(&leaves) != stated.root {
        return Err(Failure::integrity(format!(
            "session {session}: its log is not what entry {at} sealed"
        )));
    }
    let line =
        wanted.ok_or_else(|| Failure::missing(format!("there is no entry {session}:{seq}")))?;
    Ok((at, include(&leaves, line, seq)?))
}

//! Checkpoints: sign one now, keep a copy where the repository's writers do not write.
//!
//! Where the charter names an anchor command it gets the note first, with no lock
//! held, and the entry records its answer, or that there was none.

use std::path::Path;

use crate::app::failure::Failure;
use crate::app::keys;
use crate::app::live;
use crate::app::site::Site;
use crate::domain::checkpoint::{Checkpoint, SecretKey};
use crate::domain::command::Need;
use crate::domain::event::{Checkpointed, Draft, Event};
use crate::domain::state::Kind;
use crate::store::keys::Copies;
use crate::store::ledger::Turn;

mod anchor;

/// A signed checkpoint.
#[derive(Clone, Debug)]
pub struct Signed {
    pub checkpoint: Checkpoint,
    pub note: String,
    /// The entry that records it.
    pub entry: u64,
    /// Why the charter's anchor command did not take it.
    pub unanchored: Option<String>,
}

/// Seals what the sessions have written, signs the ledger as it is now, and records that.
pub fn sign(site: &mut Site) -> Result<Signed, Failure> {
    live::seal_all(site)?;
    sign_ledger(site)
}

/// Signs the ledger as it is now, without asking any session to settle.
pub fn sign_ledger(site: &mut Site) -> Result<Signed, Failure> {
    // The turn knows the charter in force, which may have changed with this very command.
    let ((checkpoint, key, anchored), entries, _) = site.act(|turn| {
        let (checkpoint, key) = state_now(turn)?;
        let law = turn.state().law.as_ref();
        let anchored = law.is_some_and(|law| law.ledger.anchor.is_some());
        if !anchored {
            turn.append(&record(&checkpoint, None))?;
        }
        Ok((checkpoint, key, anchored))
    })?;
    if anchored {
        return publish(site, checkpoint, &key);
    }
    let note = checkpoint.sign(&key);
    keep_copy(&checkpoint, &note)?;
    Ok(Signed {
        checkpoint,
        note,
        entry: entries.last().map_or(0, |entry| entry.seq),
        unanchored: None,
    })
}

/// Signs a checkpoint, keeps a copy, has it anchored, and records all that.
pub fn publish(
    site: &mut Site,
    checkpoint: Checkpoint,
    key: &SecretKey,
) -> Result<Signed, Failure> {
    let note = checkpoint.sign(key);
    keep_copy(&checkpoint, &note)?;
    let law = site.ledger.state(&[])?.law;
    let command = law.as_ref().and_then(|law| law.ledger.anchor.as_ref());
    let asked = command.map(|command| anchor::ask(command, &note));
    let (said, unanchored) = match asked {
        None => (None, None),
        Some(Ok(answer)) => (Some(format!("answered: {answer}")), None),
        Some(Err(why)) => (Some(format!("failed: {why}")), Some(why)),
    };
    if let Some(why) = &unanchored {
        tracing::warn!(%why, "the checkpoint is not anchored");
    }
    let draft = record(&checkpoint, said);
    let (entry, _, _) = site.act(|turn| Ok(turn.append(&draft)?.seq))?;
    Ok(Signed {
        checkpoint,
        note,
        entry,
        unanchored,
    })
}

/// What the ledger is in this turn, and the key that can say so.
fn state_now(turn: &mut Turn<'_>) -> Result<(Checkpoint, SecretKey), Failure> {
    turn.load(&[Need::All(Kind::Key)])?;
    let (origin, key) = keys::signing(turn.state())?;
    let (size, root) = turn.tree();
    let checkpoint = Checkpoint { origin, size, root };
    Ok((checkpoint, key))
}

/// The entry that records a checkpoint, and what its anchor said.
fn record(checkpoint: &Checkpoint, anchor: Option<String>) -> Draft {
    Draft::new(Event::Checkpoint(Checkpointed {
        origin: checkpoint.origin.clone(),
        size: checkpoint.size,
        root: checkpoint.root,
        anchor,
    }))
}

/// Appends it to the copies under the state directory.
pub fn keep_copy(checkpoint: &Checkpoint, note: &str) -> Result<(), Failure> {
    let copies = Copies::of(&keys::state_dir()?, &checkpoint.origin);
    Ok(copies.append(note)?)
}

/// Writes a note to a file of the caller's.
pub fn write(path: &Path, note: &str) -> Result<(), Failure> {
    std::fs::write(path, note)
        .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
}

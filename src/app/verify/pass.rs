//! One pass over the entries, and what was stated about them earlier.
//!
//! Owns: chain and tree as the lines go by, the keys with the time that each was in
//! force, and that every statement holds: of an entry about those before it, of a
//! checkpoint or trailer about the first so many. Never reads a file.

use std::collections::{BTreeMap, BTreeSet};

use crate::app::failure::Failure;
use crate::app::keys;
use crate::app::merge::again;
use crate::domain::checkpoint::{Checkpoint, Note, Origin, PublicKey, rotation_message};
use crate::domain::digest::Digest;
use crate::domain::entry::{Chain, leaf};
use crate::domain::event::{Entry, Event, KeySet};
use crate::domain::export::Bound;
use crate::domain::proof::Tree;
use crate::domain::state::State;
use crate::store::ledger::{LedgerError, Lines};

/// A statement about the ledger that was made earlier.
pub(super) struct Held {
    pub(super) checkpoint: Checkpoint,
    pub(super) place: String,
    /// A signed one is believed only by a key of this ledger's.
    pub(super) note: Option<Note>,
}

/// The entry that brought a key, and the one by which it handed over to the next.
#[derive(Clone, Copy)]
struct Term {
    from: u64,
    until: Option<u64>,
}

/// An entry's statement about the first `size` entries.
struct Late {
    entry: u64,
    size: u64,
    root: Digest,
}

/// What one pass over the entries gathers.
pub(super) struct Pass {
    pub(super) chain: Chain,
    pub(super) tree: Tree,
    pub(super) bound: Bound,
    pub(super) fold: Option<State>,
    /// The root at each size that somebody stated something about.
    roots: BTreeMap<u64, Digest>,
    /// What entries state about fewer entries than stood before them.
    late: Vec<Late>,
    keys: BTreeMap<PublicKey, Term>,
    origins: BTreeSet<Origin>,
    pub(super) remarks: Vec<String>,
    pub(super) dropped: BTreeMap<Digest, u64>,
    /// Merges and reverts, where their trees are to be computed again.
    pub(super) moves: Vec<Entry>,
}

impl Held {
    pub(super) fn signed(note: Note, place: String) -> Self {
        Self {
            checkpoint: note.claimed().clone(),
            place,
            note: Some(note),
        }
    }
}

impl Pass {
    pub(super) fn new(deep: bool, held: &[Held]) -> Self {
        let sizes = held.iter().map(|held| (held.checkpoint.size, Digest::ZERO));
        let mut roots: BTreeMap<u64, Digest> = sizes.collect();
        roots.insert(0, Tree::new().root());
        Self {
            chain: Chain::new(Digest::ZERO),
            tree: Tree::new(),
            bound: Bound::default(),
            fold: deep.then(State::default),
            roots,
            late: Vec::new(),
            keys: BTreeMap::new(),
            origins: BTreeSet::new(),
            remarks: Vec::new(),
            dropped: BTreeMap::new(),
            moves: Vec::new(),
        }
    }

    /// Takes the next entry.
    pub(super) fn line(&mut self, bytes: &[u8]) -> Result<(), LedgerError> {
        let (line, leaf) = self.chain.push(bytes)?;
        if matches!(line.op, "fork" | "checkpoint") {
            self.roots.insert(self.tree.size(), self.tree.root());
        }
        self.tree.push(leaf);
        if let Some(root) = self.roots.get_mut(&self.tree.size()) {
            *root = self.tree.root();
        }
        self.bound
            .note(&line, leaf)
            .map_err(|flaw| LedgerError::Damaged(format!("entry {}: {flaw}", line.seq)))?;
        if self.fold.is_some() || matches!(line.op, "key" | "fork" | "gc" | "checkpoint") {
            let entry = Entry::from_line(&line, leaf)?;
            self.entry(&entry)?;
            if let Some(fold) = &mut self.fold {
                fold.apply(&entry);
                if again::moved_a_branch(&entry) {
                    self.moves.push(entry);
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), LedgerError> {
        match &entry.event {
            Event::Key(body) => self.key(entry.seq, body),
            Event::Fork(body) => {
                self.stated(entry.seq, body.old.size, body.old.root)?;
                self.appoint(body.public, entry.seq);
                self.origins.insert(body.origin.clone());
                Ok(())
            }
            Event::Checkpoint(body) => self.stated(entry.seq, body.size, body.root),
            Event::Gc(body) => {
                let dropped = body.versions.iter().map(|sha256| (*sha256, entry.seq));
                self.dropped.extend(dropped);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// An entry may state the root of the entries before it: then it must be that.
    fn stated(&mut self, entry: u64, size: u64, root: Digest) -> Result<(), LedgerError> {
        if size > entry {
            return Err(LedgerError::Damaged(format!(
                "entry {entry}: it speaks of {size} entries, {entry} stand before it"
            )));
        }
        if let Some(found) = self.roots.get(&size) {
            return same_root(entry, size, root, *found);
        }
        // Others came in between, as while an anchor answered: looked at once more, later.
        self.late.push(Late { entry, size, root });
        Ok(())
    }

    /// Goes over the entries again where one states what stood before it by more than itself.
    pub(super) fn check_late(&mut self, lines: &Lines<'_>) -> Result<(), LedgerError> {
        let mut late = std::mem::take(&mut self.late);
        late.sort_by_key(|late| late.size);
        let mut late = late.into_iter().peekable();
        let mut tree = Tree::new();
        if late.peek().is_none() {
            return Ok(());
        }
        lines.forward(0, &mut |_, bytes| {
            tree.push(leaf(bytes));
            while let Some(Late { entry, size, root }) =
                late.next_if(|late| late.size == tree.size())
            {
                same_root(entry, size, root, tree.root())?;
            }
            Ok(late.peek().is_some())
        })
    }

    fn appoint(&mut self, key: PublicKey, entry: u64) {
        let term = Term {
            from: entry,
            until: None,
        };
        self.keys.entry(key).or_insert(term);
    }

    /// A rotation is signed by the key before; a key that appears without is named, not a fault.
    fn key(&mut self, seq: u64, body: &KeySet) -> Result<(), LedgerError> {
        self.origins.insert(body.origin.clone());
        match (&body.previous, &body.signature) {
            (Some(previous), Some(signature)) => {
                let message = rotation_message(&body.origin, previous, &body.public);
                let bytes = keys::signature_bytes(signature);
                let signed = bytes.is_some_and(|bytes| previous.verifies(&message, &bytes));
                let Some(term) = self.keys.get_mut(previous).filter(|_| signed) else {
                    let what = format!("entry {seq}: the rotation is not signed by the key before");
                    return Err(LedgerError::Damaged(what));
                };
                term.until.get_or_insert(seq);
            }
            (Some(_), None) => self.remarks.push(format!(
                "break of custody: entry {seq} adds the key {} without the signature of the one before",
                body.public
            )),
            (None, _) => {}
        }
        self.appoint(body.public, seq);
        Ok(())
    }

    /// A note counts by the key that was in force when the ledger had `size` entries: one
    /// that was handed over signs nothing later, and none signs what was before it.
    fn signed(&self, note: &Note, size: u64, place: &str) -> Result<(), Failure> {
        let mut signers = self.keys.iter().filter(|(key, _)| note.verify(key).is_ok());
        let in_force = |term: &Term| size > term.from && term.until.is_none_or(|end| size <= end);
        match signers.find(|(_, term)| in_force(term)) {
            Some(_) => Ok(()),
            None if self.keys.keys().any(|key| note.verify(key).is_ok()) => {
                Err(Failure::integrity(format!(
                    "{place}: the checkpoint of {size} entries is signed by a key that was not in force then"
                )))
            }
            None => Err(Failure::integrity(format!(
                "{place}: the checkpoint is not signed by a key of this ledger's"
            ))),
        }
    }

    /// Sets aside what merge commits state about the ledgers `beside` this one, and says so.
    pub(super) fn name_others(
        &mut self,
        held: Vec<Held>,
        beside: &[Origin],
    ) -> Result<Vec<Held>, Failure> {
        let is_own =
            |held: &Held| held.note.is_some() || self.origins.contains(&held.checkpoint.origin);
        let (own, others): (Vec<Held>, Vec<Held>) = held.into_iter().partition(is_own);
        let mut found = Others::default();
        for held in others {
            found.add(held.checkpoint.origin, &held.place, beside)?;
        }
        self.remarks.extend(found.remarks());
        Ok(own)
    }

    /// Holds the entries against what was stated about them earlier.
    pub(super) fn agrees(&self, held: &Held) -> Result<(), Failure> {
        let Checkpoint { origin, size, root } = &held.checkpoint;
        let place = &held.place;
        if !self.origins.contains(origin) {
            return Err(another(place, origin));
        }
        if let Some(note) = &held.note {
            self.signed(note, *size, place)?;
        }
        let have = self.tree.size();
        if *size > have {
            return Err(Failure::integrity(format!(
                "ledger: rolled back or cut: {have} entries are there, but {place} states {size}"
            )));
        }
        match self.roots.get(size) {
            Some(found) if found == root => Ok(()),
            Some(found) => Err(Failure::integrity(format!(
                "ledger: forked: {place} states the root {root} for the first {size} entries, here they give {found}"
            ))),
            None => Err(Failure::failed(format!(
                "{place}: its size was not looked at"
            ))),
        }
    }
}

/// How many merge commits state something about which other ledger.
///
/// A branch that several operators merge to carries all their trailers, and each keeps one
/// ledger. Whoever verifies has to name those: a ledger that was begun again in the place of
/// the one that the trailers speak of would look the same.
#[derive(Default)]
pub(super) struct Others(BTreeMap<Origin, u64>);

impl Others {
    pub(super) fn add(
        &mut self,
        origin: Origin,
        place: &str,
        beside: &[Origin],
    ) -> Result<(), Failure> {
        if !beside.contains(&origin) {
            return Err(another(place, &origin).hint(format!(
                "if another operator merges to this branch and keeps that ledger: govfs verify --beside {origin}"
            )));
        }
        *self.0.entry(origin).or_default() += 1;
        Ok(())
    }

    pub(super) fn remarks(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|(origin, count)| {
            let commits = if *count == 1 { "commit states" } else { "commits state" };
            format!(
                "{count} merge {commits} a checkpoint of another ledger, {origin}: only that one can account for them"
            )
        })
    }
}

fn another(place: &str, origin: &Origin) -> Failure {
    Failure::integrity(format!("{place}: a checkpoint of another ledger, {origin}"))
}

/// Says whether an entry states of the first `size` entries what they give.
fn same_root(entry: u64, size: u64, stated: Digest, found: Digest) -> Result<(), LedgerError> {
    if stated == found {
        return Ok(());
    }
    Err(LedgerError::Damaged(format!(
        "entry {entry}: it states the root {stated} for {size} entries, they give {found}"
    )))
}

//! The verification of one chain, with the right entry blamed.
//!
//! Where entry n's `prev` is not the leaf of entry n-1, one of the two was
//! changed. Whoever speaks next of entry n (the entry after it, a seal, the signed
//! root) says which: if it knows n's leaf as it stands, n-1 was changed, else n.

use std::collections::BTreeMap;

use crate::domain::digest::Digest;
use crate::domain::entry::{Broken, Chain, Line, Seal, leaf};
use crate::domain::export::{Fault, Flaw, Place};
use crate::domain::proof::{Stated, Tree};

/// A chain that is fed line by line.
#[derive(Clone, Debug)]
pub struct LogAudit {
    file: String,
    chain: Chain,
    /// All leaves but the last, which may still turn out to be wrong.
    tree: Tree,
    last: Option<Digest>,
    suspect: Option<Box<Suspect>>,
    /// What checkpoints held elsewhere say, by size.
    held: BTreeMap<u64, Vec<Digest>>,
}

/// Entry `seq` and the one before it do not fit together.
#[derive(Clone, Debug)]
struct Suspect {
    seq: u64,
    /// The leaf of the entry before, as it stands and as entry `seq` says.
    before: Digest,
    said: Digest,
    leaf: Digest,
    /// The tree if entry `seq` is right.
    mended: Tree,
}

impl LogAudit {
    /// Begins the chain that stands in `file`, and whose first `prev` is `first`.
    pub fn new(file: &str, first: Digest) -> Self {
        Self {
            file: file.to_owned(),
            chain: Chain::new(first),
            tree: Tree::new(),
            last: None,
            suspect: None,
            held: BTreeMap::new(),
        }
    }

    /// Adds what a checkpoint that was held elsewhere says of this log.
    pub fn hold(&mut self, held: Stated) {
        self.held.entry(held.size).or_default().push(held.root);
    }

    /// Says whether the last line does not fit, so that one more fault is certain.
    pub fn is_suspect(&self) -> bool {
        self.suspect.is_some()
    }

    /// Returns how many lines came.
    pub fn count(&self) -> u64 {
        self.chain.seq()
    }

    /// Returns the tree hash of the lines so far.
    pub fn root(&self) -> Digest {
        let mut tree = self.tree.clone();
        tree.extend(self.last);
        tree.root()
    }

    pub fn fault(&self, entry: u64, flaw: Flaw) -> Fault {
        Fault {
            place: Place {
                file: self.file.clone(),
                entry: Some(entry),
            },
            flaw,
        }
    }

    /// Takes the next line; returns it with its leaf.
    pub fn line<'a>(&mut self, bytes: &'a [u8]) -> Result<(Line<'a>, Digest), Fault> {
        let parsed = Line::parse(bytes);
        if let Some(suspect) = &self.suspect {
            let known = parsed.is_ok_and(|line| line.prev == suspect.leaf);
            return Err(self.blame(suspect, known));
        }
        let seq = self.chain.seq();
        let line = parsed.map_err(|fault| self.fault(seq, Flaw::Broken(fault.into())))?;
        let leaf = leaf(bytes);
        match self.chain.check(&line).map_err(|fault| fault.broken) {
            Ok(()) => {}
            Err(Broken::Prev { expected, found }) if seq > 0 => {
                let mut mended = self.tree.clone();
                mended.extend([found, leaf]);
                self.suspect = Some(Box::new(Suspect {
                    seq,
                    before: expected,
                    said: found,
                    leaf,
                    mended,
                }));
            }
            Err(broken) => return Err(self.fault(seq, broken.into())),
        }
        if let Some(last) = self.last.replace(leaf) {
            self.tree.push(last);
        }
        self.chain.advance(leaf, line.ts);
        self.check_held_here()?;
        Ok((line, leaf))
    }

    /// Compares the lines so far with the checkpoints of just that size.
    fn check_held_here(&self) -> Result<(), Fault> {
        let size = self.count();
        let Some(held) = self.held.get(&size).filter(|_| !self.is_suspect()) else {
            return Ok(());
        };
        let found = self.root();
        match held.iter().find(|held| **held != found) {
            None => Ok(()),
            Some(&held) => {
                Err(self.fault(size.saturating_sub(1), Flaw::Fork { size, held, found }))
            }
        }
    }

    /// Says at the end whether a checkpoint covers more than there is.
    pub fn check_held(&self) -> Result<(), Fault> {
        match self.held.keys().next_back() {
            Some(&size) if size > self.count() => {
                Err(self.fault(self.count(), Flaw::Rollback { size }))
            }
            _ => Ok(()),
        }
    }

    /// Says who is wrong, given whether entry `seq` is known as it stands.
    fn blame(&self, suspect: &Suspect, known: bool) -> Fault {
        if known {
            let flaw = Flaw::Changed {
                expected: suspect.said,
                found: suspect.before,
            };
            return self.fault(suspect.seq - 1, flaw);
        }
        let broken = Broken::Prev {
            expected: suspect.before,
            found: suspect.said,
        };
        self.fault(suspect.seq, broken.into())
    }

    /// Compares all lines so far with a seal that entry `entry` of the ledger holds.
    pub fn check_seal(&self, seal: &Seal, entry: u64) -> Result<(), Fault> {
        if let Some(suspect) = &self.suspect {
            return Err(self.blame(suspect, seal.head == suspect.leaf));
        }
        if self.chain.prev() == seal.head && self.root() == seal.root {
            return Ok(());
        }
        Err(Fault {
            place: Place {
                file: self.file.clone(),
                entry: self.count().checked_sub(1),
            },
            flaw: Flaw::Seal { seal: entry },
        })
    }

    /// Settles a suspicion that stands at the end, by the signed root where there is one.
    pub fn settle(&self, signed: Option<Digest>) -> Result<(), Fault> {
        match &self.suspect {
            None => Ok(()),
            Some(suspect) => Err(self.blame(suspect, signed == Some(suspect.mended.root()))),
        }
    }

    /// Compares the tree of all lines so far with what was signed.
    pub fn check_root(&self, expected: Digest) -> Result<(), Fault> {
        let found = self.root();
        if found == expected {
            return Ok(());
        }
        Err(Fault {
            place: Place {
                file: self.file.clone(),
                entry: self.count().checked_sub(1),
            },
            flaw: Flaw::Root { expected, found },
        })
    }
}

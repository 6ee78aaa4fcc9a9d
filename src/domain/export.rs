//! Exports: a ledger and its write logs as files that anybody can verify.
//!
//! Owns: which files there are, the README that says how to verify them, and the
//! verification itself as a state machine that is fed line by line and keeps no
//! lines, so that an export of any length is verified in little memory.
//!
//! ```text
//! README                     the algorithm; its last line is its own SHA-256
//! checkpoint                 the signed note; covers every line of ledger.jsonl
//! key.pub                    the public key, SubjectPublicKeyInfo in DER
//! ledger.jsonl               the ledger's hashed lines
//! sessions/<session>.jsonl   each write log's hashed lines up to its last seal
//! charters/<sha256>.md       every charter that was in force, named by its SHA-256
//! ```
//!
//! Invariants: nothing is believed that the checkpoint does not cover, so a line
//! beyond it, or a write-log line beyond the last seal, is a fault. A fault names
//! the entry that was changed, not the one that shows it, wherever the entries
//! around it tell the two apart.
//!
//! Never reads a file; the caller drives it.

mod log;
mod readme;

use std::collections::BTreeMap;
use std::fmt;

use crate::domain::checkpoint::{Checkpoint, CheckpointError, Note, PublicKey};
use crate::domain::digest::Digest;
use crate::domain::entry::{Broken, Line, Seal};
use crate::domain::proof::empty_root;

pub use log::LogAudit;
pub use readme::readme;

pub const README: &str = "README";
pub const CHECKPOINT: &str = "checkpoint";
pub const KEY: &str = "key.pub";
pub const LEDGER: &str = "ledger.jsonl";
pub const SESSIONS: &str = "sessions";
pub const CHARTERS: &str = "charters";
/// Only where asked for: one record and one statement a merge.
pub const PROVENANCE: &str = "provenance";
pub const AGENT_TRACE: &str = "provenance/agent-trace.jsonl";
pub const IN_TOTO: &str = "provenance/in-toto.jsonl";

/// Returns where the write log of `session` stands.
pub fn session_file(session: &str) -> String {
    format!("{SESSIONS}/{session}.jsonl")
}

/// Returns where the charter with these bytes stands.
pub fn charter_file(charter: &[u8]) -> String {
    format!("{CHARTERS}/{}.md", Digest::of(charter))
}

/// Where something is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub file: String,
    pub entry: Option<u64>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry {
            Some(entry) => write!(f, "{} entry {entry}", self.file),
            None => f.write_str(&self.file),
        }
    }
}

/// The first thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {flaw}")]
pub struct Fault {
    pub place: Place,
    pub flaw: Flaw,
}

impl Fault {
    pub fn at(file: &str, entry: Option<u64>, flaw: Flaw) -> Self {
        Self {
            place: Place {
                file: file.to_owned(),
                entry,
            },
            flaw,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("is missing")]
    Missing,
    #[error("is no part of the export: no session entry names it")]
    Stranger,
    #[error("is not what its name or its last line says")]
    Content,
    #[error("is not the key that was given")]
    OtherKey,
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("was changed: its leaf is {found}, but the entry after it says {expected}")]
    Changed { expected: Digest, found: Digest },
    #[error("does not end in a newline")]
    Torn,
    #[error("belongs to another session")]
    Foreign,
    #[error("{0}")]
    Entry(&'static str),
    #[error("is not the entry that entry {seal} of the ledger sealed")]
    Seal { seal: u64 },
    #[error("lies beyond what is signed or sealed: {covered} entries")]
    Beyond { covered: u64 },
    #[error("is missing: {covered} entries are signed or sealed")]
    Short { covered: u64 },
    #[error("was changed: with it the tree's root is {found}, signed is {expected}")]
    Root { expected: Digest, found: Digest },
    #[error(
        "or one before it was changed: a checkpoint held elsewhere says of {size} entries {held}, here they are {found}"
    )]
    Fork {
        size: u64,
        held: Digest,
        found: Digest,
    },
    #[error("is missing: a checkpoint held elsewhere covers {size} entries")]
    Rollback { size: u64 },
    #[error("is of another ledger than the checkpoint held elsewhere")]
    OtherOrigin,
}

/// What the ledger says of one write log.
#[derive(Clone, Debug)]
struct Session {
    /// The leaf of its `session` entry.
    leaf: Digest,
    /// Every seal by its count, with the ledger's entry that says it.
    seals: BTreeMap<u64, (Seal, u64)>,
}

impl Session {
    fn new(leaf: Digest, entry: u64) -> Self {
        let nothing = Seal {
            count: 0,
            head: leaf,
            root: empty_root(),
        };
        Self {
            leaf,
            seals: BTreeMap::from([(0, (nothing, entry))]),
        }
    }

    /// Returns how many entries are sealed.
    fn covered(&self) -> u64 {
        self.seals.keys().next_back().copied().unwrap_or(0)
    }
}

/// The write logs that a ledger binds; collected while its lines go by.
#[derive(Clone, Debug, Default)]
pub struct Bound {
    sessions: BTreeMap<String, Session>,
}

impl Bound {
    /// Takes note of one line of the ledger and its leaf.
    pub fn note(&mut self, line: &Line<'_>, leaf: Digest) -> Result<(), Flaw> {
        match line.op {
            "session" => {
                let name = line.session.ok_or(Flaw::Entry("names no session"))?;
                let session = Session::new(leaf, line.seq);
                match self.sessions.insert(name.to_owned(), session) {
                    None => Ok(()),
                    Some(_) => Err(Flaw::Entry("begins a session that there is already")),
                }
            }
            "seal" => self.seal(line),
            _ => Ok(()),
        }
    }

    fn seal(&mut self, line: &Line<'_>) -> Result<(), Flaw> {
        let session = line.session.and_then(|name| self.sessions.get_mut(name));
        let session = session.ok_or(Flaw::Entry("seals a session that there is not"))?;
        let (Some(count), Some(head), Some(root)) = (
            line.natural("count"),
            line.digest("head"),
            line.digest("root"),
        ) else {
            return Err(Flaw::Entry("is no seal: count, head or root is missing"));
        };
        let seal = Seal { count, head, root };
        let (first, _) = session.seals.entry(count).or_insert((seal, line.seq));
        if *first == seal {
            Ok(())
        } else {
            Err(Flaw::Entry("contradicts another seal of the same entries"))
        }
    }

    /// Returns each session with how many of its entries are sealed.
    pub fn sessions(&self) -> impl Iterator<Item = (&str, u64)> {
        let sessions = self.sessions.iter();
        sessions.map(|(name, session)| (name.as_str(), session.covered()))
    }

    /// Begins to verify the write log of `name`, which stands in `file`.
    pub fn audit(&self, name: &str, file: &str) -> Result<SessionAudit, Fault> {
        let session = self.sessions.get(name);
        let session = session.ok_or_else(|| Fault::at(file, None, Flaw::Stranger))?;
        let audit = SessionAudit {
            name: name.to_owned(),
            log: LogAudit::new(file, session.leaf),
            covered: session.covered(),
            seals: session.seals.clone(),
        };
        audit.check_seal().map(|()| audit)
    }
}

/// The verification of one write log against everything the ledger says of it.
#[derive(Clone, Debug)]
pub struct SessionAudit {
    name: String,
    log: LogAudit,
    covered: u64,
    seals: BTreeMap<u64, (Seal, u64)>,
}

impl SessionAudit {
    /// Takes the next line. Lines beyond the last seal only have to chain; see [`SessionAudit::end`].
    pub fn line<'a>(&mut self, bytes: &'a [u8]) -> Result<(Line<'a>, Digest), Fault> {
        let seq = self.log.count();
        let (line, leaf) = self.log.line(bytes)?;
        if line.session != Some(self.name.as_str()) {
            return Err(self.log.fault(seq, Flaw::Foreign));
        }
        self.check_seal()?;
        Ok((line, leaf))
    }

    fn check_seal(&self) -> Result<(), Fault> {
        match self.seals.get(&self.log.count()) {
            Some((seal, entry)) => self.log.check_seal(seal, *entry),
            None => Ok(()),
        }
    }

    /// Says whether everything sealed was there. Returns how many entries came
    /// beyond the last seal: none may in an export, some will beside a live server.
    pub fn end(&self) -> Result<u64, Fault> {
        self.log.settle(None)?;
        let have = self.log.count();
        match have.checked_sub(self.covered) {
            Some(beyond) => Ok(beyond),
            None => Err(self.log.fault(
                have,
                Flaw::Short {
                    covered: self.covered,
                },
            )),
        }
    }
}

/// The verification of a whole export.
#[derive(Clone, Debug)]
pub struct ExportAudit {
    checkpoint: Checkpoint,
    log: LogAudit,
    bound: Bound,
}

impl ExportAudit {
    /// Begins with the files `checkpoint` and `key.pub`, and the key that the
    /// auditor trusts (without one, the signature only says that the files belong together).
    pub fn new(note: &[u8], key: &[u8], trusted: Option<&PublicKey>) -> Result<Self, Fault> {
        let at_key = |flaw| Fault::at(KEY, None, flaw);
        let key = PublicKey::from_der(key).map_err(|error| at_key(error.into()))?;
        if trusted.is_some_and(|trusted| *trusted != key) {
            return Err(at_key(Flaw::OtherKey));
        }
        let checkpoint = Note::parse(note)
            .and_then(|note| note.verify(&key).cloned())
            .map_err(|error| Fault::at(CHECKPOINT, None, error.into()))?;
        Ok(Self {
            checkpoint,
            log: LogAudit::new(LEDGER, Digest::ZERO),
            bound: Bound::default(),
        })
    }

    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Adds a checkpoint that was held elsewhere: the export has to continue it.
    pub fn hold(&mut self, held: &Checkpoint) -> Result<(), Fault> {
        if held.origin != self.checkpoint.origin {
            return Err(Fault::at(CHECKPOINT, None, Flaw::OtherOrigin));
        }
        self.log.hold(held.stated());
        Ok(())
    }

    /// Takes the next line of the ledger.
    pub fn ledger(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let seq = self.log.count();
        let covered = self.checkpoint.size;
        if seq >= covered {
            return Err(self.log.fault(seq, Flaw::Beyond { covered }));
        }
        let (line, leaf) = self.log.line(bytes)?;
        if self.log.is_suspect() {
            return Ok(()); // the next line says who is to blame
        }
        self.bound
            .note(&line, leaf)
            .map_err(|flaw| self.log.fault(seq, flaw))
    }

    /// Ends the ledger; what it binds is to be verified next.
    pub fn end(&self) -> Result<&Bound, Fault> {
        self.log.settle(Some(self.checkpoint.root))?;
        let have = self.log.count();
        let covered = self.checkpoint.size;
        if have < covered {
            return Err(self.log.fault(have, Flaw::Short { covered }));
        }
        self.log.check_root(self.checkpoint.root)?;
        self.log.check_held()?;
        Ok(&self.bound)
    }
}

/// Ends an export's write log: nothing may stand beyond the last seal.
pub fn end_session(audit: &SessionAudit) -> Result<u64, Fault> {
    let beyond = audit.end()?;
    let covered = audit.covered;
    if beyond == 0 {
        return Ok(covered);
    }
    Err(audit.log.fault(covered, Flaw::Beyond { covered }))
}

/// Verifies one file of `charters/`.
pub fn check_charter(file: &str, charter: &[u8]) -> Result<(), Fault> {
    if file == charter_file(charter) {
        Ok(())
    } else {
        Err(Fault::at(file, None, Flaw::Content))
    }
}

/// Verifies the README: its last line is the SHA-256 of what stands before it.
pub fn check_readme(bytes: &[u8]) -> Result<(), Fault> {
    if readme::is_whole(bytes) {
        Ok(())
    } else {
        Err(Fault::at(README, None, Flaw::Content))
    }
}

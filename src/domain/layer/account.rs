//! Which entry accounts for which byte of a settled file.
//!
//! Owns: [`Accounts`], the fold of a log's writes, cuts and holes into [`Step`]s:
//! for each version of a path what each stretch of it must be. A version's hash
//! says what bytes settled; only its writes say that they came through the mount.
//! A file that was emptied or made anew owes nothing to what it was before.
//! Of a write that a later one covers in part, the rest is not known any more.
//! Never reads a byte: whoever has them compares.

use std::collections::BTreeMap;

use super::Layer;
use crate::domain::digest::Digest;
use crate::domain::logop::LogOp;
use crate::domain::path::RepoPath;

/// What a stretch of a file must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch {
    /// All bytes of one write.
    Written(Digest),
    Zeros,
    /// What is left of a write, or what a crash took.
    Unknown,
}

/// What a file has where nothing was written since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    #[default]
    Nothing,
    Base(RepoPath),
    Version(Digest),
}

/// One version, and what must stand where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The entry that tells of it.
    pub entry: u64,
    pub sha256: Digest,
    pub size: u64,
    /// By offset: length and kind; none touches another's bytes.
    pub stretches: BTreeMap<u64, (u64, Stretch)>,
    pub origin: Origin,
    /// Beyond this the origin's bytes were cut off: what is not written there is zero.
    pub origin_len: u64,
}

/// The account of one path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Its versions since it was last made or emptied.
    pub steps: Vec<Step>,
    /// Bytes that a crash took and nothing has replaced.
    pub lost: BTreeMap<u64, (u64, Stretch)>,
    /// Since its last version.
    open: Since,
    /// Since it was last made or emptied, or came from the base.
    all: Since,
}

/// What was written since some moment, over what stood there then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Since {
    stretches: BTreeMap<u64, (u64, Stretch)>,
    origin: Origin,
    origin_len: u64,
}

/// The accounts of all paths that were written to.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    by_path: BTreeMap<RepoPath, Account>,
}

impl Accounts {
    pub fn of(&self, path: &RepoPath) -> Option<&Account> {
        self.by_path.get(path)
    }

    /// Folds one entry in; `layer` is what stood before it. Entries that were voided are
    /// not handed in.
    pub fn apply(&mut self, seq: u64, op: &LogOp, layer: &Layer) {
        match op {
            LogOp::Create { path, .. } => {
                self.by_path.insert(path.clone(), Account::default());
            }
            LogOp::Unlink { path, .. } | LogOp::Symlink { path, .. } => {
                self.by_path.remove(path);
            }
            LogOp::Rename {
                path, to, exchange, ..
            } => self.rename(path, to, *exchange),
            LogOp::Write {
                path,
                offset,
                len,
                sha256,
                ..
            } => {
                let account = self.account(path, layer);
                account.put(*offset, *len, Stretch::Written(*sha256));
            }
            LogOp::Hole {
                path, offset, len, ..
            } => self.account(path, layer).put(*offset, *len, Stretch::Zeros),
            LogOp::Truncate { path, size: 0, .. } => {
                self.by_path.insert(path.clone(), Account::default());
            }
            LogOp::Truncate { path, size, .. } => self.account(path, layer).cut(*size),
            LogOp::Version {
                path, size, sha256, ..
            } => self.account(path, layer).settle(seq, *size, *sha256),
            LogOp::Recovered {
                path,
                size,
                sha256,
                lost,
            } => {
                let account = self.account(path, layer);
                for (offset, len) in lost {
                    account.put(*offset, *len, Stretch::Unknown);
                    put(&mut account.lost, *offset, *len, Stretch::Unknown);
                }
                account.settle(seq, *size, *sha256);
            }
            _ => {}
        }
    }

    fn account(&mut self, path: &RepoPath, layer: &Layer) -> &mut Account {
        self.by_path.entry(path.clone()).or_insert_with(|| {
            let origin = layer.shows(path).map_or(Origin::Nothing, Origin::Base);
            let since = Since {
                origin,
                origin_len: u64::MAX,
                ..Since::default()
            };
            Account {
                open: since.clone(),
                all: since,
                ..Account::default()
            }
        })
    }

    fn rename(&mut self, from: &RepoPath, to: &RepoPath, exchange: bool) {
        let moved = self.take(from);
        let back = self.take(to);
        let mut put = |accounts: Vec<(RepoPath, Account)>, from, to| {
            let rebased = accounts
                .into_iter()
                .filter_map(|(path, account)| Some((path.rebase(from, to)?, account)));
            self.by_path.extend(rebased);
        };
        put(moved, from, to);
        if exchange {
            put(back, to, from);
        }
    }

    fn take(&mut self, at: &RepoPath) -> Vec<(RepoPath, Account)> {
        let found: Vec<RepoPath> = self
            .by_path
            .range(at.clone()..)
            .map(|(path, _)| path)
            .take_while(|path| path.as_bytes().starts_with(at.as_bytes()))
            .filter(|path| path.starts_with(at))
            .cloned()
            .collect();
        let taken = found.into_iter().map(|path| {
            let account = self.by_path.remove(&path).unwrap_or_default();
            (path, account)
        });
        taken.collect()
    }
}

impl Account {
    /// Returns the last version alone, held against everything that was written
    /// since the beginning: one look where there were many versions.
    pub fn at_once(&self) -> Option<Step> {
        let last = self.steps.last()?;
        Some(Step {
            stretches: self.all.stretches.clone(),
            origin: self.all.origin.clone(),
            origin_len: self.all.origin_len,
            ..last.clone()
        })
    }

    fn put(&mut self, offset: u64, len: u64, stretch: Stretch) {
        for since in [&mut self.open, &mut self.all] {
            put(&mut since.stretches, offset, len, stretch);
        }
        clear(&mut self.lost, offset, offset.saturating_add(len));
    }

    fn cut(&mut self, size: u64) {
        for since in [&mut self.open, &mut self.all] {
            clear(&mut since.stretches, size, u64::MAX);
            since.origin_len = since.origin_len.min(size);
        }
        clear(&mut self.lost, size, u64::MAX);
    }

    fn settle(&mut self, entry: u64, size: u64, sha256: Digest) {
        let next = Since {
            origin: Origin::Version(sha256),
            origin_len: u64::MAX,
            ..Since::default()
        };
        let Since {
            stretches,
            origin,
            origin_len,
        } = std::mem::replace(&mut self.open, next);
        self.steps.push(Step {
            entry,
            sha256,
            size,
            stretches,
            origin,
            origin_len,
        });
    }
}

impl Step {
    /// Says whether one write made all of it, so that there is nothing to read.
    pub fn is_one_write(&self) -> bool {
        let whole = (self.size, Stretch::Written(self.sha256));
        self.stretches.len() == 1 && self.stretches.get(&0) == Some(&whole)
    }
}

type Stretches = BTreeMap<u64, (u64, Stretch)>;

fn put(all: &mut Stretches, offset: u64, len: u64, stretch: Stretch) {
    if len > 0 {
        clear(all, offset, offset.saturating_add(len));
        all.insert(offset, (len, stretch));
    }
}

/// Takes everything between two offsets out; of a write, what is left is not known.
fn clear(all: &mut Stretches, from: u64, to: u64) {
    let rest = |stretch| match stretch {
        Stretch::Written(_) => Stretch::Unknown,
        other => other,
    };
    let before = all.range(..from).next_back();
    if let Some((&offset, &(len, stretch))) = before
        && offset + len > from
    {
        all.insert(offset, (from - offset, rest(stretch)));
        if offset + len > to {
            all.insert(to, (offset + len - to, rest(stretch)));
        }
    }
    while let Some((&offset, &(len, stretch))) = all.range(from..to).next() {
        all.remove(&offset);
        if offset + len > to {
            all.insert(to, (offset + len - to, rest(stretch)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::logop::{Actor, FileMode};

    fn path(text: &str) -> RepoPath {
        RepoPath::parse(text.as_bytes()).expect("a path")
    }

    fn write(at: &str, offset: u64, bytes: &[u8]) -> LogOp {
        LogOp::Write {
            path: path(at),
            offset,
            len: bytes.len() as u64,
            sha256: Digest::of(bytes),
            claim: 1,
            by: Actor::default(),
        }
    }

    fn version(at: &str, bytes: &[u8]) -> LogOp {
        LogOp::Version {
            path: path(at),
            size: bytes.len() as u64,
            mode: FileMode::Plain,
            sha256: Digest::of(bytes),
        }
    }

    fn cut(at: &str, size: u64) -> LogOp {
        LogOp::Truncate {
            path: path(at),
            size,
            claim: 1,
            by: Actor::default(),
        }
    }

    fn rename(from: &str, to: &str) -> LogOp {
        LogOp::Rename {
            path: path(from),
            to: path(to),
            exchange: false,
            claim: 1,
            by: Actor::default(),
        }
    }

    fn fold(ops: Vec<LogOp>) -> Accounts {
        let (mut accounts, mut layer) = (Accounts::default(), Layer::default());
        for (seq, op) in (0..).zip(ops) {
            accounts.apply(seq, &op, &layer);
            layer.apply(&op);
        }
        accounts
    }

    #[test]
    fn a_part_that_is_written_stands_on_what_the_base_had() {
        let accounts = fold(vec![
            rename("dir", "moved"),
            write("moved/f", 4, b"new"),
            version("moved/f", b"0123new789"),
            write("moved/f", 0, b"x"),
            version("moved/f", b"x123new789"),
        ]);
        let account = accounts.of(&path("moved/f")).expect("an account");
        let [first, second] = account.steps.as_slice() else {
            panic!("{account:?}")
        };
        assert_eq!(first.origin, Origin::Base(path("dir/f")));
        let new = (3, Stretch::Written(Digest::of(b"new")));
        assert_eq!(first.stretches, BTreeMap::from([(4, new)]));
        assert_eq!(second.origin, Origin::Version(first.sha256));
        assert_eq!(second.entry, 4);
        let at_once = account.at_once().expect("a step");
        assert_eq!(at_once.origin, first.origin);
        assert_eq!(at_once.sha256, second.sha256);
        assert_eq!(at_once.stretches.len(), 2);
    }

    #[test]
    fn an_emptied_file_owes_nothing_and_one_write_needs_no_look() {
        let accounts = fold(vec![
            write("f", 0, b"old"),
            version("f", b"old"),
            cut("f", 0),
            write("f", 0, b"new"),
            version("f", b"new"),
        ]);
        let account = accounts.of(&path("f")).expect("an account");
        assert_eq!(account.steps.len(), 1);
        assert!(account.steps[0].is_one_write());
        assert_eq!(account.steps[0].origin, Origin::Nothing);
    }

    #[test]
    fn what_is_covered_in_part_is_not_known_and_what_is_cut_is_zero() {
        let accounts = fold(vec![
            write("f", 0, b"0123456789"),
            write("f", 3, b"abc"),
            cut("f", 8),
            cut("f", 20),
            version("f", b"?"),
        ]);
        let step = &accounts.of(&path("f")).expect("an account").steps[0];
        let abc = Stretch::Written(Digest::of(b"abc"));
        let unknown = Stretch::Unknown;
        let expected = BTreeMap::from([(0, (3, unknown)), (3, (3, abc)), (6, (2, unknown))]);
        assert_eq!(step.stretches, expected);
        assert_eq!(step.origin_len, 8);
    }

    #[test]
    fn what_a_crash_took_is_lost_until_it_is_written_again() {
        let recovered = LogOp::Recovered {
            path: path("f"),
            size: 4,
            sha256: Digest::of(b"\0\0\0\0"),
            lost: vec![(0, 4), (4, 3)],
        };
        let mut ops = vec![write("f", 0, b"1234567"), recovered, write("f", 0, b"1234")];
        let accounts = fold(ops.clone());
        let lost = &accounts.of(&path("f")).expect("an account").lost;
        assert_eq!(lost.keys().copied().collect::<Vec<_>>(), [4]);
        ops.push(write("f", 4, b"567"));
        let accounts = fold(ops);
        assert!(accounts.of(&path("f")).expect("an account").lost.is_empty());
    }
}

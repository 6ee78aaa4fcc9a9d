//! Lists of operations: the fold shows what a plain map shows, whole or entry by entry.
#![no_main]

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use govfs::domain::base::{Base, BaseEntry, Oid};
use govfs::domain::digest::Digest;
use govfs::domain::layer::{Content, Layer};
use govfs::domain::logop::{Actor, FileMode, LogOp};
use govfs::domain::path::RepoPath;
use libfuzzer_sys::fuzz_target;

/// A base without a file.
struct Nothing;

impl Base for Nothing {
    fn root(&self) -> Oid {
        Oid([0; 20])
    }

    fn list(&self, _: &Oid) -> io::Result<Arc<[BaseEntry]>> {
        Ok(Arc::new([]))
    }

    fn size(&self, _: &RepoPath, _: &BaseEntry) -> io::Result<u64> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn read(&self, _: &RepoPath, _: &BaseEntry) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn ignored(&self, _: &RepoPath, _: bool) -> io::Result<bool> {
        Ok(false)
    }

    fn time(&self) -> i64 {
        0
    }
}

/// The slow, obvious truth: every path with its settled content; `None` is a directory.
#[derive(Clone, Default)]
struct Model(BTreeMap<RepoPath, Option<Digest>>);

impl Model {
    fn is_dir(&self, path: &RepoPath) -> bool {
        path.is_root() || self.0.get(path) == Some(&None)
    }

    fn is_file(&self, path: &RepoPath) -> bool {
        matches!(self.0.get(path), Some(Some(_)))
    }

    fn is_free(&self, path: &RepoPath) -> bool {
        !path.is_root()
            && !self.0.contains_key(path)
            && path.parent().is_some_and(|parent| self.is_dir(&parent))
    }

    fn is_empty(&self, path: &RepoPath) -> bool {
        !self
            .0
            .keys()
            .any(|other| other != path && other.starts_with(path))
    }

    fn take(&mut self, path: &RepoPath) -> Vec<(RepoPath, Option<Digest>)> {
        let taken: Vec<_> = self
            .0
            .iter()
            .filter(|(other, _)| other.starts_with(path))
            .map(|(other, what)| (other.clone(), *what))
            .collect();
        taken
            .iter()
            .for_each(|(other, _)| drop(self.0.remove(other)));
        taken
    }

    fn put(&mut self, taken: Vec<(RepoPath, Option<Digest>)>, from: &RepoPath, to: &RepoPath) {
        for (path, what) in taken {
            self.0.insert(path.rebase(from, to).expect("beneath"), what);
        }
    }

    /// Whether a rename could be asked for, as the kernel sees it.
    fn may_rename(&self, path: &RepoPath, to: &RepoPath, exchange: bool) -> bool {
        let there = self.0.contains_key(path) && !path.is_root();
        let apart = !to.starts_with(path) && !path.starts_with(to);
        let target = if exchange {
            self.0.contains_key(to)
        } else {
            self.is_free(to)
                || (self.is_file(to) && self.is_file(path))
                || (self.is_dir(to) && !to.is_root() && self.is_dir(path) && self.is_empty(to))
        };
        there && apart && target
    }
}

fn path(byte: u8) -> RepoPath {
    let names: [&[u8]; 4] = [b"a", b"b", b"a.tmp", b"\xff"];
    let depth = usize::from(byte >> 6) % 3 + 1;
    let picked: Vec<&[u8]> = (0..depth)
        .map(|at| names[usize::from(byte >> (2 * at)) % 4])
        .collect();
    RepoPath::parse(&picked.join(&b'/')).expect("a path")
}

/// Makes an operation that fits the model and does it there; `None` where it would have been refused.
fn step(model: &mut Model, code: u8, first: u8, second: u8) -> Vec<LogOp> {
    let (path, to, by, claim) = (path(first), path(second), Actor::default(), 1);
    let content = Digest::of(&[second]);
    match code % 6 {
        0 if model.is_free(&path) => {
            model.0.insert(path.clone(), Some(content));
            let mode = FileMode::Plain;
            let version = LogOp::Version {
                path: path.clone(),
                size: 1,
                mode,
                sha256: content,
            };
            vec![
                LogOp::Create {
                    path,
                    mode,
                    claim,
                    by,
                },
                version,
            ]
        }
        1 if model.is_free(&path) => {
            model.0.insert(path.clone(), None);
            vec![LogOp::Mkdir { path, claim, by }]
        }
        2 if model.is_file(&path) => {
            model.0.remove(&path);
            vec![LogOp::Unlink { path, claim, by }]
        }
        3 if model.is_dir(&path) && model.is_empty(&path) && !path.is_root() => {
            model.0.remove(&path);
            vec![LogOp::Rmdir { path, claim, by }]
        }
        4 if model.is_file(&path) => {
            model.0.insert(path.clone(), Some(content));
            let write = LogOp::Write {
                path: path.clone(),
                offset: 0,
                len: 1,
                sha256: content,
                claim,
                by,
            };
            vec![
                write,
                LogOp::Version {
                    path,
                    size: 1,
                    mode: FileMode::Plain,
                    sha256: content,
                },
            ]
        }
        5 => {
            let exchange = code >= 128;
            if !model.may_rename(&path, &to, exchange) {
                return Vec::new();
            }
            let moved = model.take(&path);
            let back = model.take(&to);
            model.put(moved, &path, &to);
            if exchange {
                model.put(back, &to, &path);
            }
            vec![LogOp::Rename {
                path,
                to,
                exchange,
                claim,
                by,
            }]
        }
        _ => Vec::new(),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (mut model, mut ops, mut stepwise) = (Model::default(), Vec::new(), Layer::default());
    for triple in bytes.chunks_exact(3) {
        for op in step(&mut model, triple[0], triple[1], triple[2]) {
            stepwise.apply(&op);
            ops.push(op);
        }
    }
    let whole = Layer::fold((0..).zip(&ops));
    let shown = |layer: &Layer| -> BTreeMap<RepoPath, Option<Digest>> {
        let tree = layer.tree(&Nothing).expect("a base in memory");
        let known = tree
            .into_iter()
            .map(|entry| match (entry.mode, entry.content) {
                (None, _) => (entry.path, None),
                (_, Content::Version { sha256, .. }) => (entry.path, Some(sha256)),
                (_, other) => panic!("{}: {other:?}", entry.path),
            });
        known.filter(|(path, _)| !path.is_root()).collect()
    };
    assert_eq!(shown(&whole), model.0);
    assert_eq!(shown(&stepwise), model.0);
});

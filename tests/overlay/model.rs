//! The overlay without a mount, beside a plain map: random operations, the same
//! answers, the same tree; and the fold of the log, and a second opening, agree.

#![expect(clippy::unwrap_used, reason = "a test says what it found by failing")]

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::bench::Bench;
use crate::common::bench::path;
use govfs::domain::layer::{Content, Layer};
use govfs::domain::logop::FileMode;
use govfs::domain::path::RepoPath;
use govfs::vfs::overlay::{Caller, End, FileKind, Overlay, RenameHow, SetAttr};
use proptest::prelude::*;

const CALLER: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 0,
};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Model {
    Dir,
    File { bytes: Vec<u8>, exec: bool },
    Link(Vec<u8>),
}

type Tree = BTreeMap<RepoPath, Model>;

#[derive(Clone, Debug)]
enum Op {
    Create(RepoPath, bool),
    Write(RepoPath, u64, Vec<u8>),
    Truncate(RepoPath, u64),
    Punch(RepoPath, u64, u64),
    Copy(RepoPath, RepoPath),
    Chmod(RepoPath, bool),
    Mkdir(RepoPath),
    Symlink(RepoPath),
    Unlink(RepoPath),
    Rmdir(RepoPath),
    Rename(RepoPath, RepoPath, RenameHow),
    Settle,
    Reopen,
}

fn base() -> [(&'static str, &'static str); 8] {
    [
        ("w/a", "alpha"),
        ("w/d/b", "beta"),
        ("w/d/e/c", "#!run"),
        ("w/l", "-> a"),
        ("o/a", "outside"),
        ("o/d/b", "outside too"),
        ("a", "root file"),
        ("w/big", "0123456789012345678901234567890123456789"),
    ]
}

/// Semantics decision: one literal claim on `w`, so what lies there may change and nothing else.
fn allowed(at: &RepoPath) -> bool {
    at.starts_with(&path("w"))
}

fn start() -> Tree {
    let mut tree = Tree::new();
    for (at, text) in base() {
        for dir in path(at).ancestors() {
            tree.insert(dir, Model::Dir);
        }
        let thing = match text.strip_prefix("-> ") {
            Some(target) => Model::Link(target.into()),
            None => Model::File {
                bytes: text.into(),
                exec: text.starts_with("#!"),
            },
        };
        tree.insert(path(at), thing);
    }
    tree
}

fn has_dir(tree: &Tree, at: &RepoPath) -> bool {
    at.is_root() || tree.get(at) == Some(&Model::Dir)
}

fn parent_is_there(tree: &Tree, at: &RepoPath) -> bool {
    has_dir(tree, &at.parent().unwrap())
}

fn is_empty(tree: &Tree, at: &RepoPath) -> bool {
    !tree.keys().any(|key| key != at && key.starts_with(at))
}

/// Applies an operation to the map; says whether it is one that succeeds.
fn model(tree: &mut Tree, op: &Op) -> bool {
    match op {
        Op::Create(at, exec) => insert(
            tree,
            at,
            Model::File {
                bytes: Vec::new(),
                exec: *exec,
            },
        ),
        Op::Mkdir(at) => insert(tree, at, Model::Dir),
        Op::Symlink(at) => insert(tree, at, Model::Link(b"target".to_vec())),
        Op::Write(at, offset, data) => change(tree, at, |bytes| {
            let end = usize::try_from(*offset).unwrap() + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[end - data.len()..end].copy_from_slice(data);
        }),
        Op::Truncate(at, size) => change(tree, at, |bytes| {
            bytes.resize(usize::try_from(*size).unwrap(), 0);
        }),
        Op::Punch(at, offset, len) => change(tree, at, |bytes| {
            let range = usize::try_from(*offset).unwrap()..usize::try_from(offset + len).unwrap();
            bytes
                .iter_mut()
                .enumerate()
                .filter(|(i, _)| range.contains(i))
                .for_each(|(_, b)| *b = 0);
        }),
        Op::Copy(from, to) => {
            let Some(Model::File { bytes, .. }) = tree.get(from).cloned() else {
                return false;
            };
            if bytes.is_empty() {
                return matches!(tree.get(to), Some(Model::File { .. }));
            }
            change(tree, to, |target| {
                if target.len() < bytes.len() {
                    target.resize(bytes.len(), 0);
                }
                target[..bytes.len()].copy_from_slice(&bytes);
            })
        }
        Op::Chmod(at, on) => match tree.get_mut(at) {
            Some(Model::File { exec, .. }) if allowed(at) => {
                *exec = *on;
                true
            }
            _ => false,
        },
        Op::Unlink(at) => {
            let there = matches!(tree.get(at), Some(Model::File { .. } | Model::Link(_)));
            there && allowed(at) && tree.remove(at).is_some()
        }
        Op::Rmdir(at) => {
            let ok = tree.get(at) == Some(&Model::Dir) && is_empty(tree, at) && allowed(at);
            ok && tree.remove(at).is_some()
        }
        Op::Rename(from, to, how) => rename(tree, from, to, *how),
        Op::Settle | Op::Reopen => true,
    }
}

fn insert(tree: &mut Tree, at: &RepoPath, thing: Model) -> bool {
    let ok = allowed(at) && !tree.contains_key(at) && parent_is_there(tree, at);
    if ok {
        tree.insert(at.clone(), thing);
    }
    ok
}

fn change(tree: &mut Tree, at: &RepoPath, how: impl FnOnce(&mut Vec<u8>)) -> bool {
    match tree.get_mut(at) {
        Some(Model::File { bytes, .. }) if allowed(at) => {
            how(bytes);
            true
        }
        _ => false,
    }
}

fn rename(tree: &mut Tree, from: &RepoPath, to: &RepoPath, how: RenameHow) -> bool {
    let Some(source) = tree.get(from).cloned() else {
        return false;
    };
    let target = tree.get(to).cloned();
    if !parent_is_there(tree, to) {
        return false;
    }
    if from == to {
        return true;
    }
    if !allowed(from) || !allowed(to) || (to.starts_with(from) && source == Model::Dir) {
        return false;
    }
    let below = |tree: &Tree, at: &RepoPath| -> Tree {
        let all = tree.iter();
        all.filter(|(key, _)| key.starts_with(at))
            .map(|(key, thing)| (key.clone(), thing.clone()))
            .collect()
    };
    if how == RenameHow::Exchange {
        let Some(target) = target else { return false };
        if from.starts_with(to) && target == Model::Dir {
            return false;
        }
        let (one, two) = (below(tree, from), below(tree, to));
        tree.retain(|key, _| !one.contains_key(key) && !two.contains_key(key));
        tree.extend(
            one.into_iter()
                .map(|(key, thing)| (key.rebase(from, to).unwrap(), thing)),
        );
        tree.extend(
            two.into_iter()
                .map(|(key, thing)| (key.rebase(to, from).unwrap(), thing)),
        );
        return true;
    }
    if let Some(target) = target {
        let both_dirs = (source == Model::Dir, target == Model::Dir);
        let fits = match both_dirs {
            (true, true) => is_empty(tree, to),
            (false, false) => true,
            _ => false,
        };
        if how == RenameHow::NoReplace || !fits {
            return false;
        }
        tree.remove(to);
    }
    let moved = below(tree, from);
    tree.retain(|key, _| !moved.contains_key(key));
    tree.extend(
        moved
            .into_iter()
            .map(|(key, thing)| (key.rebase(from, to).unwrap(), thing)),
    );
    true
}

fn ino(overlay: &Overlay, at: &RepoPath) -> Option<u64> {
    let mut ino = 1;
    for name in at.components() {
        ino = overlay.lookup(ino, name).ok()?.attr.ino;
    }
    Some(ino)
}

fn act(overlay: &Overlay, op: &Op) -> bool {
    let dir = |at: &RepoPath| ino(overlay, &at.parent().unwrap());
    match op {
        Op::Create(at, exec) => {
            let mode = if *exec { 0o755 } else { 0o644 };
            dir(at).is_some_and(|dir| overlay.create(dir, at.name(), mode, CALLER).is_ok())
        }
        Op::Mkdir(at) => {
            dir(at).is_some_and(|dir| overlay.mkdir(dir, at.name(), 0o755, CALLER).is_ok())
        }
        Op::Symlink(at) => {
            dir(at).is_some_and(|dir| overlay.symlink(dir, at.name(), b"target", CALLER).is_ok())
        }
        Op::Write(at, offset, data) => ino(overlay, at).is_some_and(|ino| {
            is_file(overlay, ino) && overlay.write(ino, *offset, data, false, CALLER).is_ok()
        }),
        Op::Truncate(at, size) => ino(overlay, at).is_some_and(|ino| {
            let set = SetAttr {
                size: Some(*size),
                ..SetAttr::default()
            };
            is_file(overlay, ino) && overlay.setattr(ino, &set, CALLER).is_ok()
        }),
        Op::Punch(at, offset, len) => ino(overlay, at).is_some_and(|ino| {
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            is_file(overlay, ino) && overlay.allocate(ino, *offset, *len, mode, CALLER).is_ok()
        }),
        Op::Copy(from, to) => {
            let (Some(from), Some(to)) = (ino(overlay, from), ino(overlay, to)) else {
                return false;
            };
            let size = overlay.getattr(from, CALLER).unwrap().size;
            is_file(overlay, from)
                && is_file(overlay, to)
                && overlay.copy_range((from, 0), (to, 0), size, CALLER).is_ok()
        }
        Op::Chmod(at, exec) => ino(overlay, at).is_some_and(|ino| {
            let set = SetAttr {
                mode: Some(if *exec { 0o755 } else { 0o644 }),
                ..SetAttr::default()
            };
            is_file(overlay, ino) && overlay.setattr(ino, &set, CALLER).is_ok()
        }),
        Op::Unlink(at) => dir(at).is_some_and(|dir| overlay.unlink(dir, at.name(), CALLER).is_ok()),
        Op::Rmdir(at) => dir(at).is_some_and(|dir| overlay.rmdir(dir, at.name(), CALLER).is_ok()),
        Op::Rename(from, to, how) => {
            let (Some(from_dir), Some(to_dir)) = (dir(from), dir(to)) else {
                return false;
            };
            let end = |dir, at| End {
                dir,
                name: RepoPath::name(at),
            };
            overlay
                .rename(end(from_dir, from), end(to_dir, to), *how, CALLER)
                .is_ok()
        }
        Op::Settle => overlay.settle_all().unwrap() == 0,
        Op::Reopen => true,
    }
}

fn is_file(overlay: &Overlay, ino: u64) -> bool {
    overlay
        .getattr(ino, CALLER)
        .is_ok_and(|attr| attr.kind == FileKind::Regular)
}

/// Reads the whole tree through the overlay, with inode numbers.
fn walk(overlay: &Overlay) -> (Tree, BTreeMap<RepoPath, u64>) {
    let (mut tree, mut numbers) = (Tree::new(), BTreeMap::new());
    let mut stack = vec![(1, RepoPath::root())];
    while let Some((dir, at)) = stack.pop() {
        let mut names = Vec::new();
        let mut after = 0;
        loop {
            let before = names.len();
            // Two at a time: list positions have to hold between calls.
            overlay
                .list(dir, after, false, &mut |listed| {
                    after = listed.next;
                    names.push(listed.name);
                    names.len() - before >= 2
                })
                .unwrap();
            if names.len() == before {
                break;
            }
        }
        for name in names {
            if matches!(name.as_slice(), b"." | b".." | b".git") {
                continue;
            }
            let here = at.join(&name).unwrap();
            let attr = overlay.lookup(dir, &name).unwrap().attr;
            numbers.insert(here.clone(), attr.ino);
            let thing = match attr.kind {
                FileKind::Directory => {
                    stack.push((attr.ino, here.clone()));
                    Model::Dir
                }
                FileKind::Symlink => Model::Link(overlay.readlink(attr.ino).unwrap()),
                _ => {
                    let bytes = overlay.read(attr.ino, 0, 1 << 20, <[u8]>::to_vec).unwrap();
                    assert_eq!(bytes.len() as u64, attr.size, "{here}");
                    assert_eq!(attr.perm & 0o200 != 0, allowed(&here), "{here}");
                    Model::File {
                        bytes,
                        exec: attr.perm & 0o100 != 0,
                    }
                }
            };
            tree.insert(here, thing);
        }
    }
    (tree, numbers)
}

/// Reads the whole tree from the fold of the log; every file must have settled.
fn folded(bench: &Bench) -> Tree {
    let log = bench.gate.log.lock().unwrap().clone();
    let layer = Layer::fold(log.iter().map(|logged| (logged.seq, &logged.op)));
    let base = start();
    let entries = layer.tree(bench.base.as_ref()).unwrap();
    let all = entries.into_iter().map(|entry| {
        let thing = match (entry.mode, entry.content) {
            (None, _) => Model::Dir,
            (Some(FileMode::Symlink), Content::Target(target)) => Model::Link(target.0),
            (Some(FileMode::Symlink), Content::Base(from)) => base[&from].clone(),
            (Some(mode), content) => Model::File {
                exec: mode == FileMode::Exec,
                bytes: match content {
                    Content::Version { sha256, .. } => bench.gate.version_bytes(&sha256),
                    Content::Base(from) => match &base[&from] {
                        Model::File { bytes, .. } => bytes.clone(),
                        other => panic!("{other:?}"),
                    },
                    other => panic!("{}: {other:?}", entry.path),
                },
            },
        };
        (entry.path, thing)
    });
    all.collect()
}

fn check(ops: &[Op]) {
    let bench = Bench::new(&base(), &["w"]);
    let mut overlay: Arc<Overlay> = bench.open();
    let mut tree = start();
    for op in ops {
        let before = tree.clone();
        let wanted = model(&mut tree, op);
        let got = act(&overlay, op);
        assert_eq!(got, wanted, "{op:?} in {:?}", before.keys());
        if matches!(op, Op::Reopen) {
            let numbers = walk(&overlay).1;
            overlay.settle_all().unwrap();
            drop(overlay);
            overlay = bench.open();
            assert_eq!(walk(&overlay).1, numbers, "inode numbers moved");
        }
    }
    let (seen, numbers) = walk(&overlay);
    assert_eq!(seen, tree);
    assert_eq!(overlay.settle_all().unwrap(), 0);
    assert_eq!(walk(&overlay).0, tree, "after settling");
    assert_eq!(folded(&bench), tree, "the fold of the log");
    drop(overlay);
    let again = bench.open();
    assert_eq!(walk(&again), (tree, numbers), "a second opening");
}

fn some_path() -> impl Strategy<Value = RepoPath> {
    let name = prop_oneof![4 => Just("a"), 3 => Just("b"), 2 => Just("c"), 3 => Just("d"), 2 => Just("e"), 1 => Just("l"), 1 => Just("big")];
    let top = prop_oneof![9 => Just("w"), 1 => Just("o")];
    (top, prop::collection::vec(name, 0..4)).prop_map(|(top, names)| {
        let mut at = path(top);
        for name in names {
            at = at.join(name.as_bytes()).unwrap();
        }
        at
    })
}

fn some_op() -> impl Strategy<Value = Op> {
    let how = prop_oneof![
        3 => Just(RenameHow::Replace),
        1 => Just(RenameHow::NoReplace),
        1 => Just(RenameHow::Exchange)
    ];
    let bytes = prop::collection::vec(any::<u8>(), 1..20);
    prop_oneof![
        3 => (some_path(), any::<bool>()).prop_map(|(at, exec)| Op::Create(at, exec)),
        4 => (some_path(), 0_u64..30, bytes).prop_map(|(at, offset, data)| Op::Write(at, offset, data)),
        2 => (some_path(), prop_oneof![Just(0), 0_u64..40]).prop_map(|(at, size)| Op::Truncate(at, size)),
        1 => (some_path(), 0_u64..20, 1_u64..10).prop_map(|(at, offset, len)| Op::Punch(at, offset, len)),
        1 => (some_path(), some_path()).prop_filter("itself", |(a, b)| a != b).prop_map(|(from, to)| Op::Copy(from, to)),
        1 => (some_path(), any::<bool>()).prop_map(|(at, exec)| Op::Chmod(at, exec)),
        2 => some_path().prop_map(Op::Mkdir),
        1 => some_path().prop_map(Op::Symlink),
        2 => some_path().prop_map(Op::Unlink),
        2 => some_path().prop_map(Op::Rmdir),
        5 => (some_path(), some_path(), how).prop_map(|(from, to, how)| Op::Rename(from, to, how)),
        1 => Just(Op::Settle),
        1 => Just(Op::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_overlay_is_the_map(ops in prop::collection::vec(some_op(), 1..40)) {
        check(&ops);
    }
}

#[test]
fn a_file_emptied_and_not_written_again_stays_empty() {
    check(&[
        Op::Truncate(path("w/a"), 0),
        Op::Settle,
        Op::Truncate(path("w/a"), 3),
        Op::Reopen,
    ]);
}

#[test]
fn a_renamed_base_directory_keeps_its_bytes() {
    let to = path("w/z");
    check(&[
        Op::Rename(path("w/d"), to.clone(), RenameHow::Replace),
        Op::Write(path("w/z/e/c"), 2, b"more".to_vec()),
        Op::Mkdir(path("w/d")),
        Op::Reopen,
        Op::Rename(to, path("w/d"), RenameHow::Exchange),
    ]);
}

//! Random sessions merged in random order, against a plain map.

use std::collections::{BTreeMap, BTreeSet};

use govfs::domain::base::Oid;
use govfs::domain::logop::FileMode;
use govfs::domain::path::RepoPath;
use govfs::git::promote::{Change, Promote, Stage, What};
use proptest::prelude::*;

use crate::{git, path, room, spec};

type Files = BTreeMap<RepoPath, (bool, Vec<u8>)>;

fn changes(stage: &mut Stage, from: &Files, to: &Files) -> Vec<Change> {
    let mut out = Vec::new();
    for path in from.keys().filter(|path| !to.contains_key(*path)) {
        out.push(Change {
            path: path.clone(),
            what: What::Delete,
        });
    }
    for (path, (exec, content)) in to {
        if from.get(path) != Some(&(*exec, content.clone())) {
            let mode = if *exec {
                FileMode::Exec
            } else {
                FileMode::Plain
            };
            let blob = stage.blob(content).unwrap();
            out.push(Change {
                path: path.clone(),
                what: What::Put { mode, blob },
            });
        }
    }
    out
}

fn files(promote: &Promote, tree: Oid) -> Files {
    promote
        .diff(None, Some(tree))
        .unwrap()
        .into_iter()
        .map(|delta| {
            let leaf = delta.new.unwrap();
            (
                delta.path,
                (leaf.is_exec(), promote.blob(leaf.oid).unwrap()),
            )
        })
        .collect()
}

/// A random edit of a tree: which path, and what with it.
#[derive(Clone, Debug)]
enum Edit {
    Put(&'static str, bool),
    Remove(&'static str),
    Mode(&'static str),
}

const NAMES: [&str; 9] = ["a", "b", "d", "d/x", "d/y", "d/e/z", "d-x", "f/g/h", "f/k"];

fn edit() -> impl Strategy<Value = Edit> {
    let name = proptest::sample::select(&NAMES[..]);
    prop_oneof![
        3 => (name.clone(), any::<bool>()).prop_map(|(name, exec)| Edit::Put(name, exec)),
        2 => name.clone().prop_map(Edit::Remove),
        1 => name.prop_map(Edit::Mode),
    ]
}

/// Applies edits as a file system would: a file displaces what stands in its way.
fn apply(files: &mut Files, edits: &[Edit], salt: usize) {
    for (at, edit) in edits.iter().enumerate() {
        match edit {
            Edit::Put(name, exec) => {
                let name = path(name);
                files.retain(|old, _| !old.starts_with(&name) && !name.starts_with(old));
                let content = format!("{salt}.{at} {name}\n").into_bytes();
                files.insert(name, (*exec, content));
            }
            Edit::Remove(name) => {
                let name = path(name);
                files.retain(|old, _| !old.starts_with(&name));
            }
            Edit::Mode(name) => {
                if let Some((exec, _)) = files.get_mut(&path(name)) {
                    *exec = !*exec;
                }
            }
        }
    }
}

fn three<T: Clone + PartialEq>(base: &T, ours: &T, theirs: &T) -> Option<T> {
    if ours == theirs || base == theirs {
        Some(ours.clone())
    } else if base == ours {
        Some(theirs.clone())
    } else {
        None
    }
}

/// The slow, obvious merge: path by path; `None` is a conflict.
fn model(base: &Files, ours: &Files, theirs: &Files) -> Option<Files> {
    let paths: BTreeSet<_> = base
        .keys()
        .chain(ours.keys())
        .chain(theirs.keys())
        .collect();
    let mut out = Files::new();
    for path in paths {
        let (b, o, t) = (base.get(path), ours.get(path), theirs.get(path));
        let merged = match (three(&b, &o, &t), b, o, t) {
            (Some(same), ..) => same.cloned(),
            (None, Some(b), Some(o), Some(t)) => {
                Some((three(&b.0, &o.0, &t.0)?, three(&b.1, &o.1, &t.1)?))
            }
            _ => return None,
        };
        if let Some(file) = merged {
            out.insert(path.clone(), file);
        }
    }
    let clash = |path: &RepoPath| path.ancestors().any(|dir| out.contains_key(&dir));
    if out.keys().any(clash) {
        None
    } else {
        Some(out)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Sessions by several agents, each from some earlier tip, merged in any order.
    #[test]
    fn sessions_merged_in_random_order_agree_with_a_plain_model(
        first in proptest::collection::vec(edit(), 0..8),
        sessions in proptest::collection::vec(
            (any::<proptest::sample::Index>(), proptest::collection::vec(edit(), 0..5)), 1..7),
    ) {
        let room = room();
        let mut tips: Vec<(Option<Oid>, Option<Oid>, Files)> = vec![(None, None, Files::new())];
        let mut all = vec![(None, first)];
        all.extend(sessions.into_iter().map(|(base, edits)| (Some(base), edits)));
        for (salt, (base, edits)) in all.iter().enumerate() {
            let (_, base_tree, base_files) = tips[base.map_or(0, |base| base.index(tips.len()))].clone();
            let (tip, tip_tree, tip_files) = tips[tips.len() - 1].clone();
            let mut session = base_files.clone();
            apply(&mut session, edits, salt);
            let mut stage = room.promote.stage().unwrap();
            let list = changes(&mut stage, &base_files, &session);
            let candidate = stage.tree(base_tree, &list).unwrap();
            prop_assert_eq!(&files(stage.view(), candidate), &session);
            let merged = stage.merge(base_tree, tip_tree, candidate).unwrap();
            let expected = model(&base_files, &tip_files, &session);
            prop_assert_eq!(merged.conflicts.is_empty(), expected.is_some(),
                "{:?} {:?}", merged.conflicts, &expected);
            let Some(expected) = expected else { continue };
            prop_assert_eq!(&files(stage.view(), merged.tree), &expected);
            let commit = stage.commit(&spec(merged.tree, tip.as_slice())).unwrap();
            stage.settle(&[commit]).unwrap();
            let target = room.promote.target("main").unwrap();
            prop_assert_eq!(target.tip, tip);
            room.promote.advance(&target, commit, "merge").unwrap();
            tips.push((Some(commit), Some(merged.tree), expected));
        }
        if tips.len() > 1 {
            git(room.dir.path(), &["fsck", "--strict", "--no-dangling"]);
        }
    }
}

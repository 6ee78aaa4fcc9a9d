//! Changes of a layer by examples of what tools do.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::*;
use crate::domain::base::{Base, BaseEntry, BaseKind, Oid};
use crate::domain::logop::Actor;

fn path(text: &str) -> RepoPath {
    RepoPath::parse(text.as_bytes()).unwrap()
}

/// Directories by number; a file's object id is its number.
struct Few {
    dirs: BTreeMap<u8, Arc<[BaseEntry]>>,
}

fn oid(number: u8) -> Oid {
    Oid([number; 20])
}

impl Few {
    /// `a/{x,y}`, `a/sub/deep`, `b` (a file), `run` (executable).
    fn new() -> Self {
        let entry = |name: &str, kind, number| BaseEntry {
            name: name.as_bytes().to_vec(),
            kind,
            oid: oid(number),
        };
        let file = BaseKind::File { exec: false };
        let dirs = [
            (
                0,
                vec![
                    entry("a", BaseKind::Dir, 1),
                    entry("b", file, 10),
                    entry("run", BaseKind::File { exec: true }, 11),
                ],
            ),
            (
                1,
                vec![
                    entry("sub", BaseKind::Dir, 2),
                    entry("x", file, 12),
                    entry("y", file, 13),
                ],
            ),
            (2, vec![entry("deep", file, 14)]),
        ];
        Self {
            dirs: dirs
                .into_iter()
                .map(|(at, list)| (at, list.into()))
                .collect(),
        }
    }
}

impl Base for Few {
    fn root(&self) -> Oid {
        oid(0)
    }

    fn list(&self, oid: &Oid) -> io::Result<Arc<[BaseEntry]>> {
        let found = self.dirs.get(&oid.0[0]).cloned();
        found.ok_or(io::ErrorKind::NotFound.into())
    }

    fn size(&self, _: &RepoPath, _: &BaseEntry) -> io::Result<u64> {
        Ok(0)
    }

    fn read(&self, _: &RepoPath, _: &BaseEntry) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn ignored(&self, _: &RepoPath, _: bool) -> io::Result<bool> {
        Ok(false)
    }

    fn time(&self) -> i64 {
        0
    }
}

fn write(at: &str) -> LogOp {
    LogOp::Write {
        path: path(at),
        offset: 0,
        len: 1,
        sha256: Digest::of(b"x"),
        claim: 1,
        by: Actor::default(),
    }
}

fn create(at: &str, claim: u64) -> LogOp {
    LogOp::Create {
        path: path(at),
        mode: FileMode::Plain,
        claim,
        by: Actor::default(),
    }
}

fn rename(from: &str, to: &str, exchange: bool, claim: u64) -> LogOp {
    LogOp::Rename {
        path: path(from),
        to: path(to),
        exchange,
        claim,
        by: Actor::default(),
    }
}

fn unlink(at: &str) -> LogOp {
    LogOp::Unlink {
        path: path(at),
        claim: 1,
        by: Actor::default(),
    }
}

fn mkdir(at: &str) -> LogOp {
    LogOp::Mkdir {
        path: path(at),
        claim: 1,
        by: Actor::default(),
    }
}

fn version(at: &str) -> LogOp {
    LogOp::Version {
        path: path(at),
        size: 3,
        mode: FileMode::Plain,
        sha256: Digest::of(b"abc"),
    }
}

fn fold(ops: &[LogOp]) -> Layer {
    Layer::fold((0..).zip(ops))
}

fn letters(ops: &[LogOp]) -> String {
    let changes = fold(ops).changes(&Few::new()).unwrap();
    let all = changes.iter();
    let words: Vec<String> = all
        .map(|change| match &change.from {
            Some(from) => format!("{}{}<{from}", change.status.letter(), change.path),
            None => format!("{}{}", change.status.letter(), change.path),
        })
        .collect();
    words.join(" ")
}

#[test]
fn changes_are_what_differs_from_the_base_deletions_first() {
    let table: [(&[LogOp], &str); 13] = [
        (&[], ""),
        (&[write("b")], "Mb"),
        (&[create("new", 1), write("new")], "Anew"),
        (&[unlink("b"), write("a/x")], "Db Ma/x"),
        (&[unlink("b"), create("b", 1)], "Mb"),
        (&[create("new", 1), unlink("new")], ""),
        (&[mkdir("d")], ""),
        (&[rename("b", "c", false, 1)], "Db Rc<b"),
        (
            &[rename("b", "c", false, 1), rename("c", "b", false, 1)],
            "",
        ),
        (
            &[rename("a", "z", false, 1)],
            "Da/sub/deep Da/x Da/y Rz/sub/deep<a/sub/deep Rz/x<a/x Rz/y<a/y",
        ),
        (
            &[
                rename("a", "z", false, 1),
                write("z/x"),
                unlink("z/sub/deep"),
                rename("z", "a", false, 1),
            ],
            "Da/sub/deep Ma/x",
        ),
        (&[rename("a/x", "a/y", true, 1)], "Ma/x Ma/y"),
        (&[create(".b.swp", 0), write(".b.swp")], ""),
    ];
    for (ops, want) in table {
        assert_eq!(letters(ops), want, "{ops:?}");
    }
}

#[test]
fn an_atomic_save_is_a_change_of_what_it_saves() {
    let ops = [
        create("b.tmp1", 0),
        write("b.tmp1"),
        rename("b.tmp1", "b", false, 1),
        version("b"),
    ];
    assert_eq!(letters(&ops), "Mb");
    assert!(fold(&ops).leftovers().is_empty());
    let backup = [rename("b", "b~", false, 0), create("b", 1), version("b")];
    assert_eq!(letters(&backup), "Mb");
    assert_eq!(fold(&backup).leftovers(), [path("b~")]);
    assert_eq!(letters(&backup[..1]), "Db");
}

#[test]
fn content_is_the_last_version_unless_a_write_followed() {
    let content = |ops: &[LogOp]| fold(ops).changes(&Few::new()).unwrap()[0].content.clone();
    let kept = Content::Version {
        sha256: Digest::of(b"abc"),
        size: 3,
    };
    assert_eq!(content(&[write("b")]), Content::Unsettled);
    assert_eq!(content(&[write("b"), version("b")]), kept);
    assert_eq!(
        content(&[write("b"), version("b"), write("b")]),
        Content::Unsettled
    );
    let recovered = LogOp::Recovered {
        path: path("b"),
        size: 3,
        sha256: Digest::of(b"abc"),
        lost: vec![(0, 1)],
    };
    assert_eq!(content(&[write("b"), recovered]), kept);
}

#[test]
fn a_voided_entry_leaves_no_trace() {
    let void = |entry| LogOp::Void {
        entry,
        reason: "no space".into(),
    };
    assert_eq!(letters(&[unlink("b"), void(0)]), "");
    assert_eq!(letters(&[write("a/x"), write("b"), void(1)]), "Ma/x");
}

#[test]
fn modes_and_whole_trees_are_read_from_the_fold() {
    let mode = LogOp::Mode {
        path: path("b"),
        mode: FileMode::Exec,
        claim: 1,
        by: Actor::default(),
    };
    let layer = fold(&[
        mode,
        rename("a/sub", "s", false, 1),
        mkdir("d"),
        mkdir("d/e"),
    ]);
    let changes = layer.changes(&Few::new()).unwrap();
    let modified = changes
        .iter()
        .find(|change| change.path == path("b"))
        .unwrap();
    assert_eq!(modified.mode, Some(FileMode::Exec));
    assert_eq!(modified.content, Content::Base(path("b")));
    let tree = layer.tree(&Few::new()).unwrap();
    let names: Vec<String> = tree.iter().map(|entry| entry.path.encode()).collect();
    assert_eq!(names.join(" "), "a a/x a/y b d d/e run s s/deep");
    let deep = tree.last().unwrap();
    assert_eq!(deep.content, Content::Base(path("a/sub/deep")));
}

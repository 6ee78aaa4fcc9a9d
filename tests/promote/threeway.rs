//! The three-way merge, case by case.

use govfs::domain::logop::FileMode;
use govfs::domain::merge::{Conflict, ConflictKind, Side};
use govfs::git::promote::{Change, Stage, What};

use crate::{commit, git, oid, path, room};

#[test]
fn two_sides_of_one_text_are_merged_line_by_line() {
    let room = room();
    let lines = |edit: &[(usize, &str)]| -> String {
        let mut lines: Vec<String> = (0..20).map(|n| format!("line {n}\n")).collect();
        for (at, text) in edit {
            lines[*at] = format!("{text}\n");
        }
        lines.concat()
    };
    let base = commit(room.dir.path(), &[("t", &lines(&[]))]);
    let ours = commit(room.dir.path(), &[("t", &lines(&[(2, "ours")]))]);
    let (base, ours) = (
        room.promote.tree_of(base).unwrap(),
        room.promote.tree_of(ours).unwrap(),
    );
    for (edit, expected) in [
        ((15, "theirs"), Some(lines(&[(2, "ours"), (15, "theirs")]))),
        ((2, "theirs"), None),
        ((2, "ours"), Some(lines(&[(2, "ours")]))),
    ] {
        let mut stage = room.promote.stage().unwrap();
        let blob = stage.blob(lines(&[edit]).as_bytes()).unwrap();
        let change = Change {
            path: path("t"),
            what: What::Put {
                mode: FileMode::Plain,
                blob,
            },
        };
        let theirs = stage.tree(Some(base), &[change]).unwrap();
        let merged = stage.merge(Some(base), Some(ours), theirs).unwrap();
        match expected {
            Some(text) => {
                assert_eq!(merged.conflicts, []);
                let leaf = stage.view().leaf(merged.tree, &path("t")).unwrap().unwrap();
                assert_eq!(stage.view().blob(leaf.oid).unwrap(), text.as_bytes());
            }
            None => assert_eq!(merged.conflicts[0].kind, ConflictKind::Content),
        }
    }
}

/// Names, each with a mode letter (`f`ile, e`x`ecutable, `l`ink) and a content.
type Tree<'a> = &'a [(&'a str, char, &'a str)];

fn tree(stage: &mut Stage, files: Tree<'_>) -> govfs::domain::base::Oid {
    let changes: Vec<Change> = files
        .iter()
        .map(|(name, kind, content)| {
            let blob = stage.blob(content.as_bytes()).unwrap();
            let mode = match kind {
                'x' => FileMode::Exec,
                'l' => FileMode::Symlink,
                _ => FileMode::Plain,
            };
            Change {
                path: path(name),
                what: What::Put { mode, blob },
            }
        })
        .collect();
    stage.tree(None, &changes).unwrap()
}

const LONG: &str = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\n";
const LONG_2: &str = "one\ntwo\nthree\nfour\nfive\nsix\nseven\nEIGHT\n";

/// Base, ours, theirs, and what the first conflict is; nothing for a clean merge.
type Case<'a> = (
    Tree<'a>,
    Tree<'a>,
    Tree<'a>,
    Option<(&'a str, ConflictKind, &'a str)>,
);

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn every_kind_of_conflict_has_its_name() {
    use ConflictKind as K;
    let ours = Side::Ours;
    let theirs = Side::Theirs;
    let cases: &[Case<'_>] = &[
        (
            &[("a", 'f', "1\n")],
            &[("a", 'f', "2\n")],
            &[("a", 'f', "3\n")],
            Some(("a", K::Content, "")),
        ),
        (
            &[("a", 'f', "1\0")],
            &[("a", 'f', "2\0")],
            &[("a", 'f', "3\0")],
            Some(("a", K::Binary, "")),
        ),
        (
            &[],
            &[("a", 'f', "2\n")],
            &[("a", 'f', "3\n")],
            Some(("a", K::BothAdded, "")),
        ),
        (
            &[],
            &[("a", 'f', "2\n")],
            &[("a", 'x', "2\n")],
            Some(("a", K::Mode, "")),
        ),
        (&[], &[("a", 'f', "2\n")], &[("a", 'f', "2\n")], None),
        (
            &[("a", 'f', "1\n")],
            &[],
            &[("a", 'f', "3\n")],
            Some(("a", K::Removed { by: ours }, "")),
        ),
        (
            &[("a", 'f', "1\n")],
            &[("a", 'f', "2\n")],
            &[],
            Some(("a", K::Removed { by: theirs }, "")),
        ),
        (&[("a", 'f', "1\n")], &[], &[], None),
        (
            &[("a", 'f', "1\n")],
            &[("a", 'x', "1\n")],
            &[("a", 'f', "3\n")],
            None,
        ),
        (
            &[("a", 'f', "1\n")],
            &[("a", 'x', "1\n")],
            &[("a", 'x', "3\n")],
            None,
        ),
        (
            &[("a", 'l', "x")],
            &[("a", 'l', "y")],
            &[("a", 'l', "z")],
            Some(("a", K::Type, "")),
        ),
        (
            &[("a", 'f', "1\n")],
            &[("a", 'l', "y")],
            &[("a", 'f', "2\n")],
            Some(("a", K::Type, "")),
        ),
        (
            &[("a", 'f', "1\n")],
            &[("a", 'f', "1\n")],
            &[("a", 'l', "y")],
            None,
        ),
        (
            &[],
            &[("a", 'f', "1\n")],
            &[("a/b", 'f', "1\n")],
            Some(("a", K::FileDirectory, "")),
        ),
        (
            &[("d/x", 'f', "1\n"), ("d/y", 'f', "1\n")],
            &[("d", 'f', "2\n")],
            &[("d/y", 'f', "1\n")],
            None,
        ),
        (
            &[("a", 'f', LONG)],
            &[("b", 'f', LONG)],
            &[("a", 'f', LONG_2)],
            Some(("a", K::Removed { by: ours }, "renamed to b")),
        ),
        (
            &[("a", 'f', LONG)],
            &[("a", 'f', LONG_2)],
            &[("b", 'f', LONG)],
            Some(("a", K::Removed { by: theirs }, "renamed to b")),
        ),
        (
            &[("a", 'f', LONG)],
            &[("b", 'f', LONG)],
            &[("c", 'f', LONG)],
            Some((
                "a",
                K::Rename,
                "renamed to b on the branch, renamed to c here",
            )),
        ),
        (
            &[("a", 'f', LONG)],
            &[],
            &[("c", 'f', LONG_2)],
            Some(("a", K::Rename, "removed on the branch, renamed to c here")),
        ),
        (
            &[("a", 'f', LONG)],
            &[("b", 'f', LONG)],
            &[("b", 'f', LONG)],
            None,
        ),
        (
            &[("d/a", 'f', LONG)],
            &[("e/a", 'f', LONG)],
            &[("f/a", 'f', LONG)],
            Some((
                "d/a",
                K::Rename,
                "renamed to e/a on the branch, renamed to f/a here",
            )),
        ),
    ];
    for (base, ours, theirs, expected) in cases {
        let room = room();
        let mut stage = room.promote.stage().unwrap();
        let [base, ours, theirs] = [base, ours, theirs].map(|files| tree(&mut stage, files));
        let merged = stage.merge(Some(base), Some(ours), theirs).unwrap();
        let expected: Vec<Conflict> = expected
            .iter()
            .map(|(name, kind, note)| Conflict {
                path: path(name),
                kind: *kind,
                note: (!note.is_empty()).then(|| (*note).to_owned()),
            })
            .collect();
        assert_eq!(merged.conflicts, expected);
    }
}

#[test]
fn submodules_and_odd_modes_of_the_branch_pass_through_untouched() {
    let room = room();
    let dir = room.dir.path();
    let base = commit(dir, &[("a", "a\n"), ("d/b", "b\n")]);
    let info = format!("160000,{base},d/module");
    git(dir, &["update-index", "--add", "--cacheinfo", &info]);
    git(dir, &["commit", "-q", "-m", "submodule"]);
    let tip = oid(&git(dir, &["rev-parse", "HEAD"]));
    let (base, ours) = (
        room.promote.tree_of(base).unwrap(),
        room.promote.tree_of(tip).unwrap(),
    );
    let mut stage = room.promote.stage().unwrap();
    let blob = stage.blob(b"changed\n").unwrap();
    let what = What::Put {
        mode: FileMode::Plain,
        blob,
    };
    let path_b = path("d/b");
    let theirs = stage
        .tree(Some(base), &[Change { path: path_b, what }])
        .unwrap();
    let merged = stage.merge(Some(base), Some(ours), theirs).unwrap();
    assert_eq!(merged.conflicts, []);
    let deltas = stage.view().diff(Some(ours), Some(merged.tree)).unwrap();
    assert_eq!(deltas.len(), 1);
    let module = stage
        .view()
        .leaf(merged.tree, &path("d/module"))
        .unwrap()
        .unwrap();
    assert_eq!(module.mode, 0o160_000);
}

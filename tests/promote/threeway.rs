//! The three-way merge, case by case.

use govfs::domain::logop::FileMode;
use govfs::domain::merge::ConflictKind;
use govfs::git::promote::{Change, What};

use crate::{commit, path, room};

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

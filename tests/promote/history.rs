//! Looking back: differences, blame, touched paths, reverts.

use std::fmt::Write as _;

use govfs::domain::merge::Status;
use govfs::git::promote::unified;

use crate::{commit, git, oid, path, room};

#[test]
fn differences_list_removals_first() {
    let room = room();
    let dir = room.dir.path();
    let one = commit(
        dir,
        &[
            ("a", "a\n"),
            ("b", "b\n"),
            ("d/x", "x\n"),
            ("d/y", "y\n"),
            ("m", "m\n"),
        ],
    );
    git(dir, &["rm", "-q", "-r", "d"]);
    std::fs::remove_file(dir.join("b")).unwrap();
    std::os::unix::fs::symlink("a", dir.join("b")).unwrap();
    git(dir, &["update-index", "--chmod=+x", "m"]);
    git(dir, &["config", "core.filemode", "false"]);
    let two = commit(dir, &[("a", "A\n"), ("d", "file\n")]);
    let tree = |commit| Some(room.promote.tree_of(commit).unwrap());
    let deltas = room.promote.diff(tree(one), tree(two)).unwrap();
    let mut shown = String::new();
    for delta in &deltas {
        writeln!(shown, "{} {}", delta.status.letter(), delta.path).unwrap();
    }
    assert_eq!(shown, "D d/x\nD d/y\nM a\nT b\nA d\nM m\n");
    let text = unified(b"a\n", b"A\n", 3).unwrap().unwrap();
    assert_eq!(text, b"@@ -1 +1 @@\n-a\n+A\n");
}

#[test]
fn blame_agrees_with_git_through_renames_and_merges() {
    let room = room();
    let dir = room.dir.path();
    let text = |edits: &[(usize, &str)]| -> String {
        let mut lines: Vec<String> = (0..12).map(|n| format!("line {n}\n")).collect();
        for (at, line) in edits {
            lines[*at] = (*line).to_owned();
        }
        lines.concat()
    };
    commit(dir, &[("old", &text(&[])), ("other", "o\n")]);
    commit(dir, &[("old", &text(&[(3, "three\n")]))]);
    git(dir, &["checkout", "-q", "-b", "side"]);
    commit(
        dir,
        &[("old", &text(&[(3, "three\n"), (10, "side\nside 2\n")]))],
    );
    git(dir, &["checkout", "-q", "main"]);
    git(dir, &["mv", "old", "new"]);
    commit(dir, &[("new", &text(&[(0, "zero\n"), (3, "three\n")]))]);
    git(dir, &["merge", "-q", "--no-edit", "side"]);
    commit(
        dir,
        &[(
            "new",
            &git(dir, &["show", "HEAD:new"]).replace("line 6\n", ""),
        )],
    );
    let tip = oid(&git(dir, &["rev-parse", "HEAD"]));
    let found = room.promote.blame(tip, &path("new"), &|_, _| None).unwrap();
    let ours: Vec<String> = found
        .iter()
        .map(|line| {
            format!(
                "{} {}",
                line.commit,
                String::from_utf8_lossy(&line.text).trim_end()
            )
        })
        .collect();
    let porcelain = git(dir, &["blame", "--line-porcelain", "new"]);
    let mut theirs = Vec::new();
    let mut commit = "";
    for line in porcelain.lines() {
        match line.strip_prefix('\t') {
            Some(text) => theirs.push(format!("{commit} {text}")),
            None if line.len() > 40 && line.as_bytes()[40] == b' ' => commit = &line[..40],
            None => {}
        }
    }
    assert_eq!(ours, theirs);
    assert!(found.iter().any(|line| line.path == path("old")));
    assert_eq!(
        room.promote
            .blame(tip, &path("none"), &|_, _| None)
            .unwrap(),
        []
    );
    let touches = room.promote.touches(tip, &path("new"), 10).unwrap();
    let statuses: Vec<_> = touches.iter().map(|touch| touch.status).collect();
    let (m, a) = (Status::Modified, Status::Added);
    assert_eq!(statuses, [m, m, a, m, a]);
    assert_eq!(touches[2].renamed_from, Some(path("old")));
    assert_eq!(room.promote.touches(tip, &path("new"), 2).unwrap().len(), 2);
}

#[test]
fn a_revert_undoes_exactly_one_merge_or_names_what_collides() {
    let room = room();
    let dir = room.dir.path();
    let first = commit(dir, &[("a", "a\n"), ("b", "b\n")]);
    let merge = commit(dir, &[("a", "changed\n"), ("n", "new\n")]);
    let apart = commit(dir, &[("b", "later\n")]);
    let mut stage = room.promote.stage().unwrap();
    let undone = stage.revert(merge, apart).unwrap();
    assert_eq!(undone.merged.conflicts, []);
    let view = stage.view();
    let now = view.tree_of(apart).unwrap();
    let deltas = view.diff(Some(now), Some(undone.merged.tree)).unwrap();
    let paths: Vec<_> = deltas.iter().map(|d| (d.path.encode(), d.status)).collect();
    assert_eq!(
        paths,
        [
            ("n".to_owned(), Status::Deleted),
            ("a".to_owned(), Status::Modified)
        ]
    );
    let collides = commit(dir, &[("a", "changed again\n")]);
    let mut stage = room.promote.stage().unwrap();
    let undone = stage.revert(merge, collides).unwrap();
    assert_eq!(undone.merged.conflicts[0].path, path("a"));
    assert_eq!(undone.later, [(path("a"), vec![collides])]);
    let mut stage = room.promote.stage().unwrap();
    let all = stage.revert(first, first).unwrap();
    assert_eq!(
        all.merged.tree,
        oid("4b825dc642cb6eb9a060e54bf8d69288fbee4904")
    );
}

//! The operator's checkout follows the branch, or the merge is refused first.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use govfs::domain::base::Oid;
use govfs::domain::logop::FileMode;
use govfs::git::promote::{Change, Plain, PromoteError, Trouble, What};

use crate::{Room, commit, git, path, room, spec};

/// A change of the fixture's branch: a path, and its new content.
type Edit<'a> = (&'a str, Option<(FileMode, &'a str)>);

#[expect(clippy::unnecessary_wraps, reason = "the shape of an edit")]
fn plain(text: &str) -> Option<(FileMode, &str)> {
    Some((FileMode::Plain, text))
}

/// Promotes `edits` onto main as a merge would: prepare, move, follow.
fn promote(room: &Room, edits: &[Edit<'_>]) -> Result<Oid, PromoteError> {
    let target = room.promote.target("main")?;
    let base = target
        .tip
        .map(|tip| room.promote.tree_of(tip))
        .transpose()?;
    let mut stage = room.promote.stage()?;
    let mut changes = Vec::new();
    for (name, content) in edits {
        let what = match content {
            Some((mode, text)) => What::Put {
                mode: *mode,
                blob: stage.blob(text.as_bytes())?,
            },
            None => What::Delete,
        };
        changes.push(Change {
            path: path(name),
            what,
        });
    }
    let tree = stage.tree(base, &changes)?;
    let new = stage.commit(&spec(tree, target.tip.as_slice()))?;
    stage.settle(&[new])?;
    let follow = room.promote.prepare_follow(&target, tree, &Plain, false)?;
    room.promote.advance(&target, new, "govfs: merge")?;
    let promised: Vec<_> = changes.iter().map(Change::promise).collect();
    room.promote.recheck(&target, new, &promised)?;
    follow.finish(&room.promote, &Plain)?;
    Ok(new)
}

fn troubles(result: Result<Oid, PromoteError>) -> Vec<(Option<String>, Trouble)> {
    match result {
        Err(PromoteError::Blocked(list)) => list
            .into_iter()
            .map(|obstacle| (obstacle.path.map(|path| path.encode()), obstacle.trouble))
            .collect(),
        other => panic!("not blocked: {other:?}"),
    }
}

fn clean(dir: &Path) {
    assert_eq!(git(dir, &["status", "--porcelain"]), "");
    git(dir, &["fsck", "--strict", "--no-dangling"]);
}

fn fixture() -> Room {
    let room = room();
    let files = [
        ("a", "a\n"),
        ("d/x", "x\n"),
        ("d/y", "y\n"),
        ("run", "#!\n"),
    ];
    commit(room.dir.path(), &files);
    room
}

#[test]
fn a_clean_checkout_follows_exactly() {
    let room = fixture();
    let dir = room.dir.path();
    fs::write(dir.join("mine"), "untracked, elsewhere").unwrap();
    fs::write(dir.join("a"), "a\nedited\n").unwrap();
    promote(
        &room,
        &[
            ("d/x", None),
            ("d/y", None),
            ("d", plain("a file now\n")),
            ("new/deep/file", plain("n\n")),
            ("run", Some((FileMode::Exec, "#!\n"))),
            ("link", Some((FileMode::Symlink, "new/deep"))),
        ],
    )
    .unwrap();
    assert_eq!(fs::read_to_string(dir.join("d")).unwrap(), "a file now\n");
    assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "a\nedited\n");
    assert_eq!(
        fs::read_link(dir.join("link")).unwrap(),
        Path::new("new/deep")
    );
    assert_eq!(
        dir.join("run").metadata().unwrap().permissions().mode() & 0o111,
        0o111
    );
    assert_eq!(git(dir, &["status", "--porcelain"]), " M a\n?? mine");
    assert!(!dir.join(".git/index.lock").exists() && !dir.join(".git/index.govfs").exists());
    assert!(git(dir, &["reflog", "-1"]).contains("govfs: merge"));
}

#[test]
fn what_the_operator_would_lose_refuses_the_merge_before_anything_moves() {
    type Spoil = fn(&Path);
    let cases: [(&str, Spoil, Edit<'_>, Trouble); 9] = [
        (
            "a modified file",
            |d| fs::write(d.join("a"), "b\n").unwrap(),
            ("a", plain("z")),
            Trouble::Modified,
        ),
        (
            "a staged file",
            |d| {
                fs::write(d.join("a"), "b\n").unwrap();
                git(d, &["add", "a"]);
            },
            ("a", plain("z")),
            Trouble::Staged,
        ),
        (
            "a removed file",
            |d| fs::remove_file(d.join("a")).unwrap(),
            ("a", plain("z")),
            Trouble::Missing,
        ),
        (
            "a changed mode",
            |d| {
                fs::set_permissions(d.join("a"), fs::Permissions::from_mode(0o755)).unwrap();
            },
            ("a", None),
            Trouble::Modified,
        ),
        (
            "an untracked file",
            |d| fs::write(d.join("new"), "b\n").unwrap(),
            ("new", plain("z")),
            Trouble::Untracked,
        ),
        (
            "an untracked file above",
            |d| fs::write(d.join("new"), "b\n").unwrap(),
            ("new/x", plain("z")),
            Trouble::Untracked,
        ),
        (
            "an untracked file beneath",
            |d| {
                fs::create_dir(d.join("new")).unwrap();
                fs::write(d.join("new/x"), "b\n").unwrap();
            },
            ("new", plain("z")),
            Trouble::Untracked,
        ),
        (
            "a link above",
            |d| symlink("/", d.join("new")).unwrap(),
            ("new/x", plain("z")),
            Trouble::Untracked,
        ),
        (
            "a held index",
            |d| fs::write(d.join(".git/index.lock"), "").unwrap(),
            ("a", plain("z")),
            Trouble::Busy,
        ),
    ];
    for (name, spoil, edit, trouble) in cases {
        let room = fixture();
        let dir = room.dir.path();
        spoil(dir);
        let before = (
            git(dir, &["rev-parse", "main"]),
            git(dir, &["status", "--porcelain"]),
        );
        let found = troubles(promote(&room, &[edit]));
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert_eq!(found[0].1, trouble, "{name}");
        let after = (
            git(dir, &["rev-parse", "main"]),
            git(dir, &["status", "--porcelain"]),
        );
        assert_eq!(before, after, "{name}");
    }
}

#[test]
fn a_dirty_file_that_the_merge_does_not_touch_is_no_obstacle() {
    let room = fixture();
    let dir = room.dir.path();
    fs::write(dir.join("a"), "mine\n").unwrap();
    git(dir, &["add", "a"]);
    promote(&room, &[("d/x", plain("theirs\n"))]).unwrap();
    assert_eq!(git(dir, &["status", "--porcelain"]), "M  a");
}

#[test]
fn a_file_that_was_only_touched_is_clean() {
    let room = fixture();
    fs::write(room.dir.path().join("a"), "a\n").unwrap();
    promote(&room, &[("a", plain("b\n"))]).unwrap();
    clean(room.dir.path());
}

#[test]
fn other_branches_and_detached_heads_do_not_follow() {
    for args in [
        &["checkout", "-q", "-b", "other"][..],
        &["checkout", "-q", "--detach"],
    ] {
        let room = fixture();
        let dir = room.dir.path();
        git(dir, args);
        fs::write(dir.join("a"), "mine\n").unwrap();
        promote(&room, &[("a", plain("theirs\n"))]).unwrap();
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "mine\n");
        assert_eq!(git(dir, &["show", "main:a"]), "theirs");
    }
}

#[test]
fn a_linked_worktree_on_the_branch_follows() {
    let room = fixture();
    let dir = room.dir.path();
    git(dir, &["checkout", "-q", "-b", "other"]);
    let linked = tempfile::tempdir().unwrap();
    let there = linked.path().join("w");
    git(
        dir,
        &["worktree", "add", "-q", there.to_str().unwrap(), "main"],
    );
    promote(&room, &[("a", plain("theirs\n")), ("d/x", None)]).unwrap();
    assert_eq!(fs::read_to_string(there.join("a")).unwrap(), "theirs\n");
    assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "a\n");
    clean(&there);
    clean(dir);
    fs::write(there.join("a"), "dirty\n").unwrap();
    let found = troubles(promote(&room, &[("a", plain("again\n"))]));
    assert_eq!(found, [(Some("a".to_owned()), Trouble::Modified)]);
}

#[test]
fn a_rebase_of_the_branch_anywhere_is_a_refusal() {
    let room = fixture();
    let dir = room.dir.path();
    fs::create_dir(dir.join(".git/rebase-merge")).unwrap();
    git(dir, &["checkout", "-q", "--detach"]);
    fs::write(dir.join(".git/rebase-merge/head-name"), "refs/heads/main\n").unwrap();
    let found = troubles(promote(&room, &[("a", plain("z"))]));
    assert_eq!(found, [(None, Trouble::InProgress("rebase"))]);
    fs::write(dir.join(".git/rebase-merge/head-name"), "refs/heads/else\n").unwrap();
    promote(&room, &[("a", plain("z"))]).unwrap();
}

#[test]
fn a_merge_under_way_in_the_checkout_is_a_refusal() {
    let room = fixture();
    let head = git(room.dir.path(), &["rev-parse", "HEAD"]);
    fs::write(room.dir.path().join(".git/MERGE_HEAD"), head).unwrap();
    let found = troubles(promote(&room, &[("a", plain("z"))]));
    assert_eq!(found, [(None, Trouble::InProgress("merge"))]);
}

#[test]
fn an_unborn_branch_gets_its_first_commit_and_files() {
    let room = room();
    promote(&room, &[("a/b", plain("first\n"))]).unwrap();
    clean(room.dir.path());
    assert_eq!(git(room.dir.path(), &["show", "main:a/b"]), "first");
}

#[test]
fn a_bare_repository_only_moves_the_branch() {
    let dir = tempfile::tempdir().unwrap();
    git(dir.path(), &["init", "-q", "--bare", "-b", "main"]);
    let promote_at = govfs::git::promote::Promote::open(dir.path()).unwrap();
    let room = Room {
        dir,
        promote: promote_at,
    };
    promote(&room, &[("a", plain("first\n"))]).unwrap();
    promote(&room, &[("a", plain("second\n"))]).unwrap();
    assert_eq!(git(room.dir.path(), &["show", "main:a"]), "second");
    assert_eq!(git(room.dir.path(), &["rev-list", "--count", "main"]), "2");
}

#[test]
fn a_crash_between_the_ref_and_the_files_is_finished_later() {
    let room = fixture();
    let dir = room.dir.path();
    let target = room.promote.target("main").unwrap();
    let base = room.promote.tree_of(target.tip.unwrap()).unwrap();
    let mut stage = room.promote.stage().unwrap();
    let change = |name: &str, what| Change {
        path: path(name),
        what,
    };
    let mut put = |text: &str| What::Put {
        mode: FileMode::Plain,
        blob: stage.blob(text.as_bytes()).unwrap(),
    };
    let changes = [
        change("a", put("new a\n")),
        change("d/x", What::Delete),
        change("n", put("new n\n")),
        change("d/y", put("new y\n")),
    ];
    let tree = stage.tree(Some(base), &changes).unwrap();
    let new = stage.commit(&spec(tree, target.tip.as_slice())).unwrap();
    stage.settle(&[new]).unwrap();
    let follow = room
        .promote
        .prepare_follow(&target, tree, &Plain, false)
        .unwrap();
    room.promote.advance(&target, new, "govfs: merge").unwrap();
    // The crash: some files are new, the index is old, the locks stand.
    std::mem::forget(follow);
    fs::write(dir.join("a"), "new a\n").unwrap();
    fs::write(dir.join("n"), "new n\n").unwrap();
    fs::remove_file(dir.join("d/x")).unwrap();
    let follow = room
        .promote
        .prepare_follow(&target, tree, &Plain, true)
        .unwrap();
    follow.finish(&room.promote, &Plain).unwrap();
    clean(dir);
    let again = room
        .promote
        .prepare_follow(&target, tree, &Plain, true)
        .unwrap();
    again.finish(&room.promote, &Plain).unwrap();
    clean(dir);
}

#[test]
fn a_sparse_checkout_stays_sparse() {
    let room = room();
    let dir = room.dir.path();
    commit(dir, &[("in/a", "a\n"), ("out/b", "b\n"), ("top", "t\n")]);
    git(dir, &["sparse-checkout", "set", "--cone", "in"]);
    assert!(!dir.join("out").exists());
    let edits = [
        ("in/a", plain("a2\n")),
        ("out/b", plain("b2\n")),
        ("out/c", plain("c\n")),
        ("in/d/e", plain("e\n")),
    ];
    promote(&room, &edits).unwrap();
    assert!(!dir.join("out").exists());
    assert_eq!(fs::read_to_string(dir.join("in/d/e")).unwrap(), "e\n");
    clean(dir);
}

#[test]
fn a_dropped_preparation_leaves_no_trace() {
    let room = fixture();
    let target = room.promote.target("main").unwrap();
    let tree = room.promote.tree_of(target.tip.unwrap()).unwrap();
    drop(
        room.promote
            .prepare_follow(&target, tree, &Plain, false)
            .unwrap(),
    );
    git(room.dir.path(), &["add", "-A"]);
    clean(room.dir.path());
}

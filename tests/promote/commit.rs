//! The commit: its words, its signature, the ref and the objects beneath it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use govfs::domain::base::Oid;
use govfs::domain::digest::Digest;
use govfs::domain::logop::FileMode;
use govfs::git::promote::{Change, Promote, PromoteError, What};

use crate::{Room, commit, git, oid, path, room, spec};

/// Stages one commit on main that puts `text` at `name`.
fn put(room: &Room, name: &str, text: &str) -> Result<(Oid, Oid), PromoteError> {
    let tip = room.promote.target("main")?.tip;
    let base = tip.map(|tip| room.promote.tree_of(tip)).transpose()?;
    let mut stage = room.promote.stage()?;
    let what = What::Put {
        mode: FileMode::Plain,
        blob: stage.blob(text.as_bytes())?,
    };
    let path = path(name);
    let tree = stage.tree(base, &[Change { path, what }])?;
    let new = stage.commit(&spec(tree, tip.as_slice()))?;
    stage.settle(&[new])?;
    Ok((new, tree))
}

#[test]
fn a_commit_says_who_and_carries_its_trailers() {
    let room = room();
    let dir = room.dir.path();
    git(dir, &["config", "user.name", "Olga <Operator>"]);
    git(dir, &["config", "user.email", "olga@example.org"]);
    let (new, _) = put(&room, "a", "a\n").unwrap();
    let form = "%an|%ae|%cn|%ce|%s|%(trailers:key=Govfs-Agent,valueonly)";
    let shown = git(
        dir,
        &["show", "-s", &format!("--format={form}"), &new.to_string()],
    );
    assert_eq!(
        shown.trim(),
        "alice|alice@govfs.invalid|Olga Operator|olga@example.org|work|alice"
    );
}

#[test]
fn the_branch_moves_only_from_the_tip_that_was_seen() {
    let room = room();
    commit(room.dir.path(), &[("a", "a\n")]);
    let seen = room.promote.target("main").unwrap();
    let (new, _) = put(&room, "b", "b\n").unwrap();
    let other = commit(room.dir.path(), &[("a", "later\n")]);
    match room.promote.advance(&seen, new, "merge") {
        Err(PromoteError::Moved {
            expected, found, ..
        }) => {
            assert_eq!((expected, found), (seen.tip, Some(other)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        git(room.dir.path(), &["rev-parse", "main"]),
        other.to_string()
    );
}

#[test]
fn an_unborn_branch_is_born_once() {
    let room = room();
    let seen = room.promote.target("topic/new").unwrap();
    assert_eq!(seen.tip, None);
    let (new, _) = put(&room, "a", "a\n").unwrap();
    room.promote.advance(&seen, new, "merge").unwrap();
    let late = room.promote.advance(&seen, new, "merge");
    assert!(matches!(late, Err(PromoteError::Moved { .. })), "{late:?}");
    room.promote.retreat(&seen, new, "undo").unwrap();
    assert_eq!(room.promote.target("topic/new").unwrap().tip, None);
}

#[test]
fn a_symbolic_branch_moves_what_it_names() {
    let room = room();
    let dir = room.dir.path();
    commit(dir, &[("a", "a\n")]);
    git(
        dir,
        &["symbolic-ref", "refs/heads/alias", "refs/heads/main"],
    );
    let target = room.promote.target("alias").unwrap();
    assert_eq!(target.refname, "refs/heads/main");
    let (new, _) = put(&room, "b", "b\n").unwrap();
    room.promote.advance(&target, new, "merge").unwrap();
    assert_eq!(
        git(dir, &["symbolic-ref", "refs/heads/alias"]),
        "refs/heads/main"
    );
    assert_eq!(git(dir, &["rev-parse", "main"]), new.to_string());
    for bad in ["", "a..b", "-x", "a b", "x.lock"] {
        assert!(room.promote.target(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn concurrent_merges_serialise_on_the_ref() {
    let room = room();
    commit(room.dir.path(), &[("a", "a\n")]);
    let dir = room.dir.path().to_path_buf();
    let threads: Vec<_> = (0..4)
        .map(|n| {
            let dir = dir.clone();
            std::thread::spawn(move || {
                let promote = Promote::open(&dir).unwrap();
                let file = path(&format!("f{n}"));
                loop {
                    let target = promote.target("main").unwrap();
                    let tree = promote.tree_of(target.tip.unwrap()).unwrap();
                    let mut stage = promote.stage().unwrap();
                    let blob = stage.blob(b"x").unwrap();
                    let what = What::Put {
                        mode: FileMode::Plain,
                        blob,
                    };
                    let change = Change {
                        path: file.clone(),
                        what,
                    };
                    let tree = stage.tree(Some(tree), &[change]).unwrap();
                    let new = stage.commit(&spec(tree, target.tip.as_slice())).unwrap();
                    stage.settle(&[new]).unwrap();
                    match promote.advance(&target, new, "merge") {
                        Ok(()) => break,
                        Err(PromoteError::Moved { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(
        git(&dir, &["ls-tree", "--name-only", "main"]),
        "a\nf0\nf1\nf2\nf3"
    );
    assert_eq!(git(&dir, &["rev-list", "--count", "main"]), "5");
}

#[test]
fn what_was_promised_is_looked_at_again() {
    let room = room();
    commit(room.dir.path(), &[("a", "a\n")]);
    let target = room.promote.target("main").unwrap();
    let old = room.promote.tree_of(target.tip.unwrap()).unwrap();
    let (new, tree) = put(&room, "b", "b\n").unwrap();
    room.promote.advance(&target, new, "merge").unwrap();
    let promised: Vec<_> = room
        .promote
        .diff(Some(old), Some(tree))
        .unwrap()
        .into_iter()
        .map(|delta| (delta.path, delta.new))
        .collect();
    room.promote.recheck(&target, new, &promised).unwrap();
    let mut altered = promised.clone();
    altered[0].1 = None;
    let other = room.promote.recheck(&target, new, &altered);
    assert!(matches!(other, Err(PromoteError::Promise { .. })));
    let more = room.promote.recheck(&target, new, &[]);
    assert!(matches!(more, Err(PromoteError::Promise { .. })));
    commit(room.dir.path(), &[("c", "c\n")]);
    let later = room.promote.recheck(&target, new, &promised);
    assert!(matches!(later, Err(PromoteError::Moved { .. })));
}

#[test]
fn streamed_content_is_checked_against_its_hash() {
    let room = room();
    let mut stage = room.promote.stage().unwrap();
    let bytes = vec![7_u8; 300_000];
    let sha256 = Digest::of(&bytes);
    let name = path("big");
    let fine = stage
        .blob_from(&name, &mut bytes.as_slice(), 300_000, &sha256)
        .unwrap();
    assert_eq!(stage.view().blob(fine).unwrap(), bytes);
    let wrong = Digest::of(b"other");
    for (content, len, sha256) in [
        (&bytes[..], 300_000, wrong),
        (&bytes[1..], 300_000, sha256),
        (&bytes[..], 299_999, sha256),
    ] {
        let mut reader = content;
        let result = stage.blob_from(&name, &mut reader, len, &sha256);
        assert!(
            matches!(result, Err(PromoteError::Altered { .. })),
            "{result:?}"
        );
    }
}

#[test]
fn few_objects_are_loose_and_many_are_one_pack() {
    let room = room();
    let dir = room.dir.path();
    let mut stage = room.promote.stage().unwrap();
    let few: Vec<Oid> = (0..3)
        .map(|n| stage.blob(format!("few {n}").as_bytes()).unwrap())
        .collect();
    stage.settle(&few).unwrap();
    assert!(git(dir, &["count-objects", "-v"]).contains("count: 3\n"));
    let mut stage = room.promote.stage().unwrap();
    let blobs: Vec<Oid> = (0..100)
        .map(|n| stage.blob(format!("many {n}").as_bytes()).unwrap())
        .collect();
    // Nothing is on disk before it is settled.
    assert!(room.promote.blob(blobs[0]).is_err());
    stage.settle(&blobs).unwrap();
    let count = git(dir, &["count-objects", "-v"]);
    assert!(
        count.contains("count: 3\n") && count.contains("in-pack: 100\n"),
        "{count}"
    );
    assert_eq!(room.promote.blob(blobs[99]).unwrap(), b"many 99");
    // What nothing reaches stays behind, and can still be settled later.
    let mut stage = room.promote.stage().unwrap();
    let (kept, left) = (stage.blob(b"kept").unwrap(), stage.blob(b"left").unwrap());
    stage.settle(&[kept]).unwrap();
    assert!(room.promote.blob(left).is_err());
    assert_eq!(stage.blob(b"left").unwrap(), left);
    stage.settle(&[left]).unwrap();
    assert_eq!(room.promote.blob(left).unwrap(), b"left");
    git(dir, &["fsck", "--strict"]);
}

#[test]
fn no_tree_is_made_that_no_checkout_can_hold() {
    let room = room();
    let mut stage = room.promote.stage().unwrap();
    let blob = stage.blob(b"x").unwrap();
    let put = |name: &str| Change {
        path: path(name),
        what: What::Put {
            mode: FileMode::Plain,
            blob,
        },
    };
    let gone = |name: &str| Change {
        path: path(name),
        what: What::Delete,
    };
    let base = stage
        .tree(None, &[put("f"), put("d/x"), put("d/y")])
        .unwrap();
    for list in [
        &[put("f/x")][..],
        &[put("d")],
        &[put("d"), gone("d/x")],
        &[put("n"), put("n/x")],
    ] {
        let result = stage.tree(Some(base), list);
        assert!(
            matches!(result, Err(PromoteError::Shape { .. })),
            "{list:?}"
        );
    }
    for name in [".git/x", "a/.GIT", "git~1"] {
        let result = stage.tree(Some(base), &[put(name)]);
        assert!(
            matches!(result, Err(PromoteError::Reserved { .. })),
            "{name}"
        );
    }
    let swapped = [gone("f"), put("f/x"), gone("d"), put("d/z")];
    let tree = stage.tree(Some(base), &swapped).unwrap();
    let paths: Vec<_> = stage.view().diff(None, Some(tree)).unwrap();
    let paths: Vec<_> = paths.into_iter().map(|delta| delta.path.encode()).collect();
    assert_eq!(paths, ["d/z", "f/x"]);
    let nothing = stage.tree(Some(base), &[gone("f"), gone("d")]).unwrap();
    assert_eq!(nothing, oid("4b825dc642cb6eb9a060e54bf8d69288fbee4904"));
    assert_eq!(stage.tree(Some(base), &[gone("none")]).unwrap(), base);
}

#[test]
fn a_session_keeps_its_commits_through_garbage_collection() {
    let room = room();
    let dir = room.dir.path();
    commit(dir, &[("a", "a\n")]);
    let session = "alice-1".parse().unwrap();
    let (new, _) = put(&room, "b", "kept\n").unwrap();
    room.promote.keep(&session, new).unwrap();
    git(dir, &["gc", "-q", "--prune=now"]);
    assert_eq!(room.promote.kept(&session).unwrap(), Some(new));
    assert_eq!(git(dir, &["show", &format!("{new}:b")]), "kept");
    room.promote.drop_keep(&session).unwrap();
    room.promote.drop_keep(&session).unwrap();
    assert_eq!(room.promote.kept(&session).unwrap(), None);
}

#[test]
fn nothing_of_the_repository_is_executed() {
    let room = room();
    let dir = room.dir.path();
    commit(
        dir,
        &[
            ("a", "a\n"),
            (".gitattributes", "* filter=x diff=x merge=x\n"),
        ],
    );
    let canary = dir.join(".git/canary");
    let script = format!("#!/bin/sh\ntouch {}\n", canary.display());
    let program = dir.join(".git/program");
    fs::write(&program, &script).unwrap();
    let hooks = dir.join(".git/hooks");
    fs::create_dir_all(&hooks).unwrap();
    let names = [
        "reference-transaction",
        "pre-commit",
        "post-checkout",
        "post-index-change",
    ];
    for file in names.map(|name| hooks.join(name)).iter().chain([&program]) {
        fs::write(file, &script).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for key in [
        "filter.x.clean",
        "filter.x.smudge",
        "diff.x.command",
        "merge.x.driver",
        "core.fsmonitor",
    ] {
        git(dir, &["config", key, program.to_str().unwrap()]);
    }
    let _ = fs::remove_file(&canary);
    let target = room.promote.target("main").unwrap();
    let (new, tree) = put(&room, "a", "b\n").unwrap();
    let plain = govfs::git::promote::Plain;
    let follow = room
        .promote
        .prepare_follow(&target, tree, &plain, false)
        .unwrap();
    room.promote.advance(&target, new, "merge").unwrap();
    follow.finish(&room.promote, &plain).unwrap();
    assert!(!canary.exists());
}

/// Makes an ssh key and configures git to sign with it.
fn sign_with_ssh(room: &Room) {
    let dir = room.dir.path();
    let key = dir.join(".git/key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
        .arg(&key)
        .status()
        .unwrap();
    assert!(made.success());
    let public = fs::read_to_string(dir.join(".git/key.pub")).unwrap();
    let allowed = dir.join(".git/allowed");
    fs::write(&allowed, format!("* {public}")).unwrap();
    git(dir, &["config", "commit.gpgsign", "true"]);
    git(dir, &["config", "gpg.format", "ssh"]);
    git(dir, &["config", "user.signingkey", key.to_str().unwrap()]);
    git(
        dir,
        &[
            "config",
            "gpg.ssh.allowedSignersFile",
            allowed.to_str().unwrap(),
        ],
    );
}

#[test]
fn a_commit_is_signed_where_git_is_configured_to() {
    let room = room();
    sign_with_ssh(&room);
    let (new, _) = put(&room, "a", "a\n").unwrap();
    git(room.dir.path(), &["verify-commit", &new.to_string()]);
    git(room.dir.path(), &["config", "commit.gpgsign", "false"]);
    let (plain, _) = put(&room, "b", "b\n").unwrap();
    let raw = git(room.dir.path(), &["cat-file", "commit", &plain.to_string()]);
    assert!(!raw.contains("gpgsig"));
}

#[test]
fn a_signing_program_stands_in_for_openpgp() {
    let room = room();
    let dir = room.dir.path();
    let program = dir.join(".git/sign");
    let script = "#!/bin/sh\ncat >/dev/null\n\
        echo \"args: $*\" >&2\necho '[GNUPG:] SIG_CREATED D' >&2\n\
        echo '-----BEGIN PGP SIGNATURE-----'\necho\necho 'abc='\necho '-----END PGP SIGNATURE-----'\n";
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    git(dir, &["config", "commit.gpgsign", "true"]);
    git(dir, &["config", "gpg.program", program.to_str().unwrap()]);
    let (new, _) = put(&room, "a", "a\n").unwrap();
    let raw = git(dir, &["cat-file", "commit", &new.to_string()]);
    assert!(
        raw.contains("gpgsig -----BEGIN PGP SIGNATURE-----\n \n abc=\n"),
        "{raw}"
    );
    git(dir, &["fsck", "--strict"]);
}

#[test]
fn a_failing_signature_is_a_refusal_and_makes_no_commit() {
    let cases = [
        ("openpgp", "gpg.program", "/bin/false"),
        ("openpgp", "gpg.program", "/nonexistent/gpg"),
        ("openpgp", "gpg.program", "/bin/true"),
        ("ssh", "gpg.ssh.program", "/bin/false"),
        ("x509", "gpg.x509.program", "/bin/false"),
        ("strange", "gpg.program", "/bin/true"),
    ];
    for (format, key, program) in cases {
        let room = room();
        let dir = room.dir.path();
        git(dir, &["config", "commit.gpgsign", "true"]);
        git(dir, &["config", "gpg.format", format]);
        git(dir, &["config", "user.signingkey", "/nonexistent/key"]);
        git(dir, &["config", key, program]);
        let result = put(&room, "a", "a\n");
        assert!(
            matches!(result, Err(PromoteError::Signing { .. })),
            "{format} {program}: {result:?}"
        );
    }
}

/// What a process leaves that was killed between two objects: a tree without its file.
#[test]
fn a_tree_left_without_its_file_is_not_taken_for_whole() {
    for files in [1, 60] {
        let room = room();
        let dir = room.dir.path();
        let mut stage = room.promote.stage().unwrap();
        let mut changes = Vec::new();
        for n in 0..files {
            let what = What::Put {
                mode: FileMode::Plain,
                blob: stage.blob(format!("text {n}\n").as_bytes()).unwrap(),
            };
            changes.push(Change {
                path: path(&format!("dir/f{n}")),
                what,
            });
        }
        let mut stale = room.promote.stage().unwrap();
        let tree = stale.tree(None, &changes).unwrap();
        stale.settle(&[tree]).unwrap();
        let missing = git(dir, &["cat-file", "--batch-check", "--batch-all-objects"]);
        assert!(!missing.contains("blob"), "only trees are there: {missing}");
        let again = stage.tree(None, &changes).unwrap();
        assert_eq!(again, tree);
        let new = stage.commit(&spec(tree, &[])).unwrap();
        stage.settle(&[new]).unwrap();
        git(dir, &["fsck", "--strict", &new.to_string()]);
    }
}

#[test]
fn more_content_than_is_held_in_memory_is_whole_on_disk() {
    let room = room();
    let mut stage = room.promote.stage().unwrap();
    let mut changes = Vec::new();
    for n in 0..70_u8 {
        let what = What::Put {
            mode: FileMode::Plain,
            blob: stage.blob(&vec![n; 1 << 20]).unwrap(),
        };
        changes.push(Change {
            path: path(&format!("dir/f{n}")),
            what,
        });
    }
    let tree = stage.tree(None, &changes).unwrap();
    let new = stage.commit(&spec(tree, &[])).unwrap();
    stage.settle(&[new]).unwrap();
    git(room.dir.path(), &["fsck", "--strict", &new.to_string()]);
    let packs = room.dir.path().join(".git/objects");
    let left = fs::read_dir(packs).unwrap().map(|entry| entry.unwrap());
    assert!(
        left.map(|entry| entry.file_name())
            .all(|name| { !name.to_string_lossy().starts_with("tmp_") })
    );
}

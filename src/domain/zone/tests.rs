//! Zones of paths as tools use them: scratch, transient names, git's own files.

use super::*;

fn path(text: &str) -> RepoPath {
    RepoPath::parse(text.as_bytes()).unwrap()
}

/// Tracked: `src/lib.rs`, `target/keep`. Claimed: `src/lib.rs`, `new.txt`, everything beneath `gen`.
struct Map;

impl Facts for Map {
    type Error = ();

    fn tracked(&self, path: &RepoPath) -> Result<bool, ()> {
        Ok([
            "src",
            "src/lib.rs",
            "src/main.rs",
            "target",
            "target/keep",
            "Cargo.toml",
        ]
        .contains(&path.encode().as_str()))
    }

    fn ignored(&self, path: &RepoPath, _is_dir: bool) -> Result<bool, ()> {
        let text = path.encode();
        Ok(text.starts_with("target/")
            || path.as_bytes().ends_with(b".o")
            || text.starts_with("node_modules"))
    }

    fn claimed(&self, path: &RepoPath) -> bool {
        let text = path.encode();
        text == "src/lib.rs" || text == "new.txt" || text.starts_with("gen/")
    }

    fn present(&self, path: &RepoPath) -> bool {
        ["src/lib.rs", "gen/there"].contains(&path.encode().as_str())
    }

    fn claimed_in(&self, dir: &RepoPath) -> Option<RepoPath> {
        let known = ["src", "gen"].contains(&dir.encode().as_str());
        known.then(|| dir.join(b"lib.rs").unwrap())
    }
}

#[test]
fn zones_come_in_their_order() {
    let table = [
        ("src/.GIT/x", Zone::Reserved),
        ("src/git~1", Zone::Reserved),
        (".Git", Zone::Reserved),
        (".git", Zone::Gitdir),
        (".git/HEAD", Zone::Gitdir),
        (".govfs/README", Zone::Control),
        ("src/.govfs", Zone::Governed),
        ("src/lib.rs", Zone::Governed),
        ("target/keep", Zone::Governed), // tracked, though ignored
        ("gen/a.rs", Zone::Governed),
        ("gen/a.o", Zone::Scratch),       // claimed, but ignored
        ("gen/there.o", Zone::Transient), // beside a claimed `there`
        ("new.txt", Zone::Governed),
        ("src/.lib.rs.swp", Zone::Transient),
        ("src/lib.rs~", Zone::Transient),
        ("src/sedAbC123", Zone::Transient),
        ("docs/sedAbC123", Zone::Governed),
        ("src/.main.rs.swp", Zone::Governed), // main.rs is not claimed
        ("src/new.rs", Zone::Governed),
        ("src/lib_test.rs", Zone::Governed),
        ("target/debug/x", Zone::Scratch),
        ("target/x.tmp.1", Zone::Scratch),
        ("node_modules", Zone::Scratch),
        ("src/x.o", Zone::Scratch),
    ];
    for (text, want) in table {
        let got = classify(&path(text), false, &Map).unwrap().0;
        assert_eq!(got, want, "{text}");
    }
    let dir = classify(&path("src/lib.rs~"), true, &Map).unwrap().0;
    assert_eq!(dir, Zone::Governed, "a directory is never transient");
}

#[test]
fn cargo_makes_its_target_directory_under_another_name() {
    struct Crates;
    impl Facts for Crates {
        type Error = ();
        fn tracked(&self, path: &RepoPath) -> Result<bool, ()> {
            Ok(["Cargo.toml", "kept/Cargo.toml", "kept/target"].contains(&path.encode().as_str()))
        }
        fn ignored(&self, path: &RepoPath, is_dir: bool) -> Result<bool, ()> {
            Ok(is_dir && path.name() == b"target")
        }
        fn claimed(&self, path: &RepoPath) -> bool {
            path.starts_with(&self::path("kept"))
        }
        fn present(&self, path: &RepoPath) -> bool {
            path.name() == b"targetNamed0"
        }
        fn claimed_in(&self, _dir: &RepoPath) -> Option<RepoPath> {
            None
        }
    }
    let table = [
        ("targetccXq72", true, Zone::Scratch),
        ("targetccXq72", false, Zone::Governed),
        ("targetccXq7", true, Zone::Governed),
        ("targetcc.q72", true, Zone::Governed),
        ("targetNamed0", true, Zone::Governed), // claimed by its name
        ("src/targetccXq72", true, Zone::Governed), // no crate is there
        ("kept/targetccXq72", true, Zone::Governed), // its target is tracked
        ("buildsystem", true, Zone::Governed),
    ];
    for (text, is_dir, want) in table {
        let got = classify(&path(text), is_dir, &Crates).unwrap().0;
        assert_eq!(got, want, "{text}");
    }
}

#[test]
fn a_transient_name_knows_what_it_saves() {
    let saves = |text| classify(&path(text), false, &Map).unwrap().1;
    assert_eq!(saves("src/.lib.rs.swp"), Some(path("src/lib.rs")));
    assert_eq!(saves("src/#lib.rs#"), Some(path("src/lib.rs")));
    assert_eq!(saves("src/sedAbC123"), Some(path("src/lib.rs")));
    assert_eq!(saves("src/lib.rs"), None);
}

#[test]
fn tools_save_under_these_names() {
    let derived = [
        "F.tmp.123.0a1b2c3d4e5f",
        "F.tmp.0a1b2c3d",
        ".F.tmp.0a1b2c3d",
        "F.tmp.99.1700000000000",
        "F0Fpo3k",
        "F.12345",
        ".F.aB3dE6",
        "F.oAbC123",
        "F.lock",
        ".F.swp",
        ".F.swx",
        "F~",
        ".#F",
        "#F#",
        "F.bak",
        "F.orig",
    ];
    for name in derived {
        assert!(
            derived_from(name.as_bytes()).contains(&b"F".as_slice()),
            "{name}"
        );
    }
    for name in [
        "F",
        "F_test",
        "Fx",
        "xF",
        "F2",
        ".F/x",
        "F-new",
        "#F",
        "F.0123456789012345678901234567890123456789x",
    ] {
        let is = derived_from(name.as_bytes()).contains(&b"F".as_slice());
        assert_eq!(is, name == "#F", "{name}");
    }
    for name in [
        "4913",
        "5036",
        "sedAbC123",
        "XXab12cd",
        "tmpab12_cde",
        ".tmpAbC123",
        ".tmp-77-0a1b2c3d",
        "f.txz~",
    ] {
        assert!(is_anonymous(name.as_bytes()), "{name}");
    }
    for name in [
        "4914",
        "sed",
        "sedition",
        "XX",
        "tmpABCDEFGH",
        "tmp",
        "~",
        ".tmp-x-0a1b2c3d",
        "conftest.py",
        "new.rs",
    ] {
        assert!(!is_anonymous(name.as_bytes()), "{name}");
    }
}

#[test]
fn git_writes_its_own_names_and_no_others() {
    let table = [
        ("HEAD", GitdirRule::Writable),
        ("HEAD.lock", GitdirRule::Writable),
        ("index", GitdirRule::Writable),
        ("index.lock", GitdirRule::Writable),
        ("packed-refs.lock", GitdirRule::Writable),
        ("MERGE_MSG", GitdirRule::Writable),
        ("refs/heads/main.lock", GitdirRule::Writable),
        ("logs/HEAD", GitdirRule::Writable),
        ("objects/ab/tmp_obj_x", GitdirRule::Writable),
        ("objects/pack/pack-1.idx", GitdirRule::Writable),
        ("rebase-merge/git-rebase-todo", GitdirRule::Writable),
        ("config", GitdirRule::Provided),
        ("config.lock", GitdirRule::Writable),
        ("config.worktree", GitdirRule::Refused),
        ("commondir", GitdirRule::Provided),
        ("gitdir", GitdirRule::Provided),
        ("hooks", GitdirRule::Refused),
        ("hooks/pre-commit", GitdirRule::Refused),
        ("info/attributes", GitdirRule::Refused),
        ("info/exclude", GitdirRule::Provided),
        ("info/sparse-checkout", GitdirRule::Refused),
        ("objects/info/alternates", GitdirRule::Provided),
        ("objects/info/alternates.lock", GitdirRule::Refused),
        ("modules/x/config", GitdirRule::Refused),
        ("worktrees/x", GitdirRule::Refused),
        ("evil", GitdirRule::Refused),
        ("refs/.git/config", GitdirRule::Refused),
        ("shallow", GitdirRule::Writable),
    ];
    for (text, want) in table {
        assert_eq!(gitdir_rule(text.as_bytes()), want, "{text}");
    }
}

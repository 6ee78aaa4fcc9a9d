//! The status after random edits.

use std::fs;

use proptest::prelude::*;

use super::{Mount, sample};

#[derive(Clone, Debug)]
enum Edit {
    Write(&'static str, &'static str),
    Remove(&'static str),
    Rename(&'static str, &'static str),
    Git(&'static [&'static str]),
}

fn edit() -> impl Strategy<Value = Edit> {
    let path = || {
        prop::sample::select(vec![
            "README",
            ".gitignore",
            "a/b.c",
            "a/b/deep/c.c",
            "a/b/deep/.gitignore",
            "a-b/x",
            "a.b",
            "new",
            "a/new.o",
            "a/b/deep/new.tmp",
            "new/dir/file",
            "out/file",
            "a/b",
        ])
    };
    let text = prop::sample::select(vec!["one\n", "two\n", "*.c\n", "", "!*.o\n"]);
    let commands: Vec<&'static [&'static str]> = vec![
        &["add", "-A"],
        &["stash", "-q"],
        &["reset", "-q", "--hard"],
        &["commit", "-q", "--allow-empty", "-a", "-m", "m"],
        &["status"],
        &["clean", "-fdq", "-e", ".govfs"],
    ];
    prop_oneof![
        4 => (path(), text).prop_map(|(path, text)| Edit::Write(path, text)),
        2 => path().prop_map(Edit::Remove),
        2 => (path(), path()).prop_map(|(from, to)| Edit::Rename(from, to)),
        2 => prop::sample::select(commands).prop_map(Edit::Git),
    ]
}

fn apply(mount: &Mount, edit: &Edit) {
    // An edit that the tree does not allow is no edit.
    let full = |path: &str| mount.root.join(path);
    match edit {
        Edit::Write(path, text) => {
            let _ = fs::create_dir_all(full(path).parent().expect("parent"));
            let _ = fs::write(full(path), text);
        }
        Edit::Remove(path) => {
            let _ = fs::remove_file(full(path));
            let _ = fs::remove_dir_all(full(path));
        }
        Edit::Rename(from, to) => {
            let _ = fs::rename(full(from), full(to));
        }
        Edit::Git(args) => {
            mount.git(args);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_status_is_right_after_any_edits(edits in prop::collection::vec(edit(), 1..10)) {
        let mount = sample();
        for edit in &edits {
            apply(&mount, edit);
            mount.status();
        }
    }
}

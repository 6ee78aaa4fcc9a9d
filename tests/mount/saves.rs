//! How programs save into a claim of a single file, as system calls and as the programs themselves.

#![expect(clippy::unwrap_used, reason = "a test says what it found by failing")]

use crate::common::bench;
use crate::common::bench::Bench;
use crate::common::mount::{mount, out, refused};
use crate::common::needs;
use govfs::domain::layer::Layer;

fn bench() -> Bench {
    let files = [
        ("src/f.txt", "one\ntwo\n"),
        ("src/other.txt", "other\n"),
        ("doc/g.txt", "g\n"),
    ];
    Bench::new(&files, &["src/f.txt"])
}

/// The changed paths of the session, and what is left of atomic saves.
fn changed(bench: &Bench) -> (Vec<String>, Vec<String>) {
    let log = bench.gate.log.lock().unwrap().clone();
    let layer = Layer::fold(log.iter().map(|logged| (logged.seq, &logged.op)));
    let changes = layer.changes(bench.base.as_ref()).unwrap();
    let names = changes
        .iter()
        .map(|change| format!("{}{}", change.status.letter(), change.path));
    let left = layer.leftovers().iter().map(ToString::to_string).collect();
    (names.collect(), left)
}

#[test]
fn every_way_of_saving_works_on_a_claim_of_one_file() {
    if !needs::root() {
        return;
    }
    let ways = [
        ("in place", "echo new > src/f.txt"),
        ("append", "echo new >> src/f.txt"),
        (
            "random suffix",
            "echo new > src/f.txt.tmp.123.0a1b2c3d4e5f; chmod 644 src/f.txt.tmp.123.0a1b2c3d4e5f; mv src/f.txt.tmp.123.0a1b2c3d4e5f src/f.txt",
        ),
        (
            "write-file-atomic",
            "echo new > src/f.txt.99123; mv src/f.txt.99123 src/f.txt",
        ),
        (
            "tempfile",
            "echo new > src/tmpab12_cde; mv src/tmpab12_cde src/f.txt",
        ),
        (
            "rsync",
            "echo new > src/.f.txt.aB3dE6; mv src/.f.txt.aB3dE6 src/f.txt",
        ),
        (
            "backup first",
            "mv src/f.txt src/f.txt~; echo new > src/f.txt; rm src/f.txt~",
        ),
        (
            "fileinput",
            "mv src/f.txt src/f.txt.bak; echo new > src/f.txt; rm src/f.txt.bak",
        ),
        ("git", "rm src/f.txt; set -C; echo new > src/f.txt"),
        (
            "emacs",
            "ln -s me@host.1 src/.#f.txt; cp src/f.txt src/f.txt~; echo new > src/f.txt; echo a > 'src/#f.txt#'; rm 'src/#f.txt#' src/.#f.txt src/f.txt~",
        ),
        (
            "vim probe",
            "echo x > src/.f.txt.swp; echo > src/4913; rm src/4913; mv src/f.txt src/f.txt~; echo new > src/f.txt; rm src/f.txt~ src/.f.txt.swp",
        ),
        ("sed", "sed -i s/one/new/ src/f.txt"),
        (
            "sed backup",
            "sed -i.bak s/one/new/ src/f.txt && rm src/f.txt.bak",
        ),
        ("perl", "perl -i -pe s/one/new/ src/f.txt"),
        ("sort", "printf 'new\\nb\\n' | sort -o src/f.txt"),
        ("tee", "echo new | tee src/f.txt >/dev/null"),
        (
            "cp",
            "echo new > /tmp/$$.new; cp /tmp/$$.new src/f.txt; rm /tmp/$$.new",
        ),
        (
            "mv from elsewhere",
            "echo new > /tmp/$$.new; mv -f /tmp/$$.new src/f.txt",
        ),
        (
            "python",
            "python3 -c \"import os;f=open('src/f.txt','r+');f.truncate();f.write('new');f.close()\"",
        ),
        (
            "vim",
            "vim -u NONE -es -c '%s/one/new/' -c wq src/f.txt </dev/null",
        ),
        (
            "patch",
            "printf -- '--- a/src/f.txt\\n+++ b/src/f.txt\\n@@ -1,2 +1,2 @@\\n-one\\n+new\\n two\\n' | patch -s -p1",
        ),
        (
            "git apply",
            "printf -- '--- a/src/f.txt\\n+++ b/src/f.txt\\n@@ -1,2 +1,2 @@\\n-one\\n+new\\n two\\n' | git apply",
        ),
    ];
    for (way, script) in ways {
        let program = way.split(' ').next().unwrap();
        match program {
            "python" => needs::program("python3"),
            "vim" | "patch" | "git" | "perl" | "sed" => needs::program(program),
            _ => {}
        }
        let mut bench = bench();
        let server = mount(&mut bench);
        out(&bench, script);
        assert!(out(&bench, "cat src/f.txt").contains("new"), "{way}");
        server.stop().unwrap();
        let (names, left) = changed(&bench);
        assert_eq!(names, ["Msrc/f.txt"], "{way}");
        assert_eq!(left, [""; 0], "{way}");
    }
}

#[test]
fn names_for_saving_are_for_saving_alone() {
    if !needs::root() {
        return;
    }
    let mut bench = bench();
    let server = mount(&mut bench);
    out(&bench, "echo x > src/f.txt.tmp1");
    for script in [
        "mv src/f.txt.tmp1 src/other.txt",
        "mv src/f.txt.tmp1 src/new.txt",
        "mv src/f.txt.tmp1 doc/g.txt.tmp1",
        "mv src/other.txt src/f.txt~",
        "mv src/f.txt src/elsewhere",
        "mkdir src/f.txt.tmp2",
        "ln -s a src/f.txt.tmp2",
        "ln src/f.txt src/f.txt.tmp2",
        "echo x > src/.other.txt.swp",
        "echo x > doc/sedAbC123",
        "echo x > src/lib_test.go",
        "mkfifo src/f.txt.tmp3",
        "chmod u+s src/f.txt",
    ] {
        let why = refused(&bench, script);
        assert!(
            why.contains("ermission denied") || why.contains("not permitted"),
            "{script}: {why}"
        );
    }
    out(
        &bench,
        "test -e src/f.txt.tmp1 && cat src/f.txt src/other.txt doc/g.txt",
    );
    server.stop().unwrap();
    assert_eq!(changed(&bench), (vec![], vec!["src/f.txt.tmp1".to_owned()]));
}

#[test]
fn no_name_that_somebody_guards_is_for_saving() {
    if !needs::root() {
        return;
    }
    let mut bench = bench();
    {
        let mut rules = bench::rules(&["doc/**", "src/f.txt"]);
        rules.sensitive = vec![
            bench::pattern("**/.gitattributes"),
            bench::pattern("**/CLAUDE.md"),
        ];
        rules.protected = vec![bench::pattern("**/governor.md")];
        rules.others = vec![govfs::domain::gate::Held {
            agent: "bob".into(),
            pattern: bench::pattern("src/f.txt.in"),
        }];
        *bench.gate.rules.lock().unwrap() = rules;
    }
    let server = mount(&mut bench);
    for (name, rule) in [
        ("doc/.gitattributes", "sensitive"),
        ("doc/CLAUDE.md", "sensitive"),
        ("doc/governor.md", "protected"),
        ("src/f.txt.in", "held"),
    ] {
        refused(&bench, &format!("echo x > {name}"));
        refused(
            &bench,
            &format!("echo x > doc/g.tmp1; mv doc/g.tmp1 {name}"),
        );
        let denied = bench.gate.denied_rules();
        assert!(
            denied
                .iter()
                .any(|(path, _, why)| path == name && *why == rule),
            "{name}: {denied:?}"
        );
    }
    out(
        &bench,
        "rm doc/g.tmp1; echo x > src/f.txt.tmp1; rm src/f.txt.tmp1",
    );
    server.stop().unwrap();
    assert_eq!(changed(&bench), (vec![], vec![]));
}

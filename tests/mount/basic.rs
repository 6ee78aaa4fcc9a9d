//! The governed mount, real: read the base, write what is claimed, refuse the rest.

use crate::common::bench::Bench;
use crate::common::bench::path;
use crate::common::mount::{mount, out, sh};
use crate::common::needs;
use govfs::domain::digest::Digest;
use govfs::domain::gate::Tried;
use govfs::domain::layer::{Content, Layer, Status};
use govfs::domain::logop::LogOp;

#[test]
fn the_thin_way_through_the_house() {
    if !needs::root() {
        return;
    }
    let files = [
        ("src/lib.rs", "one\n"),
        ("src/main.rs", "two\n"),
        ("run.sh", "#!/bin/sh\necho ran\n"),
        ("link", "-> src/lib.rs"),
    ];
    let mut bench = Bench::new(&files, &["src/lib.rs", "gen"]);
    let server = mount(&mut bench);
    let table = std::fs::read_to_string("/proc/mounts").unwrap();
    let place = format!(" {} fuse.govfs ", bench.mnt().display());
    assert!(table.contains(&place), "{table}");
    assert_eq!(
        out(&bench, "cat src/lib.rs src/main.rs link; ./run.sh"),
        "one\ntwo\none\nran\n"
    );
    assert_eq!(
        out(&bench, "stat -c %a src/lib.rs src/main.rs run.sh"),
        "644\n444\n555\n"
    );
    assert_eq!(
        out(&bench, "echo more >> src/lib.rs; cat src/lib.rs"),
        "one\nmore\n"
    );
    for script in [
        "echo x >> src/main.rs",
        "echo x > src/main.rs",
        "echo x > src/new.rs",
        "rm src/main.rs",
        "mv src/main.rs gen.rs",
        "mkdir other",
        "ln -s a src/l",
        "chmod +x src/main.rs",
        "touch src/main.rs",
    ] {
        let output = sh(&bench, script);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{script}");
        assert!(errors.contains("ermission denied"), "{script}: {errors}");
    }
    assert_eq!(out(&bench, "cat src/main.rs"), "two\n");
    out(
        &bench,
        "mkdir -p gen/a/b && echo hi > gen/a/b/c && mv gen/a gen/z && cat gen/z/b/c",
    );
    out(
        &bench,
        "echo scratch > src/x.o; mkdir target; echo y > target/y; ln target/y target/z",
    );
    let rules: Vec<_> = bench.gate.denied_rules();
    assert!(
        rules.contains(&("src/main.rs".into(), Tried::Open, "not-claimed")),
        "{rules:?}"
    );
    server.stop().unwrap();

    let log = bench.gate.log.lock().unwrap().clone();
    let layer = Layer::fold(log.iter().map(|logged| (logged.seq, &logged.op)));
    let changes = layer.changes(bench.base.as_ref()).unwrap();
    let named: Vec<_> = changes
        .iter()
        .map(|c| (c.path.encode(), c.status))
        .collect();
    let want = [
        ("gen/z/b/c", Status::Added),
        ("src/lib.rs", Status::Modified),
    ];
    assert_eq!(named, want.map(|(path, status)| (path.to_owned(), status)));
    let sha256 = Digest::of(b"one\nmore\n");
    let content = Content::Version { sha256, size: 9 };
    assert_eq!(changes[1].content, content);
    assert_eq!(bench.gate.version_bytes(&sha256), b"one\nmore\n");
    let ops = bench.gate.ops();
    let at = |wanted: &dyn Fn(&LogOp) -> bool| ops.iter().position(wanted).unwrap();
    let wrote =
        at(&|op| matches!(op, LogOp::Write { path: p, len: 5, .. } if *p == path("src/lib.rs")));
    let kept = at(&|op| matches!(op, LogOp::Version { path: p, .. } if *p == path("src/lib.rs")));
    assert!(wrote < kept);

    // A second mount shows everything again.
    let server = mount(&mut bench);
    assert_eq!(
        out(&bench, "cat src/lib.rs gen/z/b/c src/x.o target/z"),
        "one\nmore\nhi\nscratch\ny\n"
    );
    server.stop().unwrap();
}

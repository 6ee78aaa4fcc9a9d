//! After a crash: what was acknowledged is there, what is not is said; and full disks.

#![expect(clippy::unwrap_used, reason = "a test says what it found by failing")]

use std::fs;
use std::sync::atomic::Ordering;

use crate::common::bench::Bench;
use govfs::domain::digest::Digest;
use govfs::domain::layer::{Content, Layer};
use govfs::domain::logop::LogOp;
use govfs::vfs::error::Error;
use govfs::vfs::overlay::{Caller, Overlay, SetAttr};

const CALLER: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 0,
};

fn bench() -> Bench {
    Bench::new(&[("w/a", "alpha"), ("w/b", "beta")], &["w"])
}

fn ino(overlay: &Overlay, name: &str) -> u64 {
    let dir = overlay.lookup(1, b"w").unwrap().attr.ino;
    overlay.lookup(dir, name.as_bytes()).unwrap().attr.ino
}

fn text(overlay: &Overlay, name: &str) -> String {
    let bytes = overlay
        .read(ino(overlay, name), 0, 1 << 20, <[u8]>::to_vec)
        .unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Path, size and lost ranges of a recovered file.
type Found = (String, u64, Vec<(u64, u64)>);

fn recovered(bench: &Bench) -> Vec<Found> {
    let ops = bench.gate.ops();
    let all = ops.into_iter().filter_map(|op| match op {
        LogOp::Recovered {
            path, size, lost, ..
        } => Some((path.encode(), size, lost)),
        _ => None,
    });
    let mut all: Vec<_> = all.collect();
    all.sort();
    all
}

#[test]
fn acknowledged_writes_survive_the_server() {
    let bench = bench();
    let overlay = bench.open();
    let dir = overlay.lookup(1, b"w").unwrap().attr.ino;
    overlay
        .write(ino(&overlay, "a"), 5, b" and more", false, CALLER)
        .unwrap();
    let made = overlay.create(dir, b"new", 0o755, CALLER).unwrap().ino;
    overlay.write(made, 0, b"fresh", false, CALLER).unwrap();
    overlay.settle_all().unwrap();
    overlay.write(made, 5, b"er", false, CALLER).unwrap();
    overlay.create(dir, b"empty", 0o644, CALLER).unwrap();
    drop(overlay); // nothing settled: as after kill -9
    let overlay = bench.open();
    assert_eq!(text(&overlay, "a"), "alpha and more");
    assert_eq!(text(&overlay, "new"), "fresher");
    assert_eq!(text(&overlay, "empty"), "");
    let found = recovered(&bench);
    assert_eq!(
        found,
        [("w/empty".into(), 0, vec![]), ("w/new".into(), 7, vec![])]
    );
    let log = bench.gate.log.lock().unwrap().clone();
    let layer = Layer::fold(log.iter().map(|logged| (logged.seq, &logged.op)));
    for change in layer.changes(bench.base.as_ref()).unwrap() {
        let Content::Version { sha256, .. } = change.content else {
            panic!("{change:?}");
        };
        let shown = text(&overlay, std::str::from_utf8(change.path.name()).unwrap());
        assert_eq!(bench.gate.version_bytes(&sha256), shown.as_bytes());
    }
}

#[test]
fn a_kill_between_a_version_and_its_entry_loses_nothing() {
    let bench = bench();
    let overlay = bench.open();
    let dir = overlay.lookup(1, b"w").unwrap().attr.ino;
    let made = overlay.create(dir, b"new", 0o644, CALLER).unwrap().ino;
    overlay.write(made, 0, b"fresh", false, CALLER).unwrap();
    bench.gate.full.store(true, Ordering::SeqCst);
    overlay.settle_all().unwrap_err(); // its bytes are kept, and no entry says so
    drop(overlay);
    bench.gate.full.store(false, Ordering::SeqCst);
    let overlay = bench.open();
    assert_eq!(text(&overlay, "new"), "fresh");
    assert_eq!(recovered(&bench), [("w/new".into(), 5, vec![])]);
    // The version stands by itself.
    overlay
        .write(ino(&overlay, "new"), 0, b"F", false, CALLER)
        .unwrap();
    assert_eq!(bench.gate.version_bytes(&Digest::of(b"fresh")), b"fresh");
}

#[test]
fn a_write_that_was_logged_and_not_done_is_said_to_be_lost() {
    let bench = bench();
    let overlay = bench.open();
    let a = ino(&overlay, "a");
    overlay.write(a, 0, b"ALPHA", false, CALLER).unwrap();
    overlay.write(a, 1, b"XXX", false, CALLER).unwrap();
    drop(overlay);
    // The crash came between the entry and the bytes.
    let working = bench.dir.path().join("work").join(format!("{a:016x}"));
    fs::write(&working, b"ALPHX").unwrap();
    let overlay = bench.open();
    assert_eq!(text(&overlay, "a"), "ALPHX");
    assert_eq!(recovered(&bench), [("w/a".into(), 5, vec![(1, 3)])]);
}

#[test]
fn a_write_that_was_logged_and_left_no_trace_came_to_nothing() {
    let bench = bench();
    let overlay = bench.open();
    let (a, b) = (ino(&overlay, "a"), ino(&overlay, "b"));
    overlay.write(a, 0, b"ALPHA", false, CALLER).unwrap();
    overlay.write(a, 1, b"XXX", false, CALLER).unwrap();
    overlay.write(b, 4, b" and", false, CALLER).unwrap();
    overlay.write(b, 8, b" more", false, CALLER).unwrap();
    drop(overlay);
    // The crash came between the entries and the bytes, of two files at once.
    let work = bench.dir.path().join("work");
    fs::write(work.join(format!("{a:016x}")), b"ALPHA").unwrap();
    fs::write(work.join(format!("{b:016x}")), b"beta and").unwrap();
    let overlay = bench.open();
    assert_eq!(text(&overlay, "a"), "ALPHA");
    assert_eq!(text(&overlay, "b"), "beta and");
    let found = recovered(&bench);
    assert_eq!(
        found,
        [("w/a".into(), 5, vec![]), ("w/b".into(), 8, vec![])]
    );
    let voids = bench.gate.ops().into_iter().filter_map(|op| match op {
        LogOp::Void { entry, .. } => Some(entry),
        _ => None,
    });
    assert_eq!(voids.collect::<Vec<_>>(), [1, 3]);
    // Opened again, it is as it was found.
    drop(overlay);
    assert_eq!(text(&bench.open(), "a"), "ALPHA");
}

#[test]
fn an_answered_write_is_never_taken_for_one_that_came_to_nothing() {
    let bench = bench();
    let overlay = bench.open();
    let a = ino(&overlay, "a");
    overlay.write(a, 5, b" and more", false, CALLER).unwrap();
    let later = SetAttr {
        size: Some(20),
        ..SetAttr::default()
    };
    overlay.setattr(a, &later, CALLER).unwrap();
    drop(overlay);
    let working = bench.dir.path().join("work").join(format!("{a:016x}"));
    fs::write(&working, b"alpha").unwrap();
    bench.open();
    assert_eq!(recovered(&bench), [("w/a".into(), 5, vec![(5, 9)])]);
}

#[test]
fn after_a_reboot_every_range_is_checked() {
    let bench = bench();
    let overlay = bench.open();
    let a = ino(&overlay, "a");
    overlay.write(a, 0, b"01234", false, CALLER).unwrap();
    overlay.write(a, 5, b"56789", false, CALLER).unwrap();
    overlay.write(a, 10, b"abc", false, CALLER).unwrap();
    drop(overlay);
    let working = bench.dir.path().join("work").join(format!("{a:016x}"));
    fs::write(&working, b"01234\0\0\0\0\0abc").unwrap();
    bench.try_open(false).unwrap();
    assert_eq!(recovered(&bench), [("w/a".into(), 13, vec![(5, 5)])]);
}

#[test]
fn a_full_log_refuses_and_changes_nothing() {
    let bench = bench();
    let overlay = bench.open();
    let a = ino(&overlay, "a");
    let dir = overlay.lookup(1, b"w").unwrap().attr.ino;
    bench.gate.full.store(true, Ordering::SeqCst);
    let full = |result: Result<(), Error>| match result {
        Err(Error::Io(error)) => assert_eq!(error.raw_os_error(), Some(libc::ENOSPC)),
        other => panic!("{other:?}"),
    };
    full(overlay.write(a, 0, b"X", false, CALLER).map(drop));
    full(overlay.create(dir, b"n", 0o644, CALLER).map(drop));
    full(overlay.unlink(dir, b"a", CALLER));
    let cut = SetAttr {
        size: Some(1),
        ..SetAttr::default()
    };
    full(overlay.setattr(a, &cut, CALLER).map(drop));
    bench.gate.full.store(false, Ordering::SeqCst);
    assert_eq!(text(&overlay, "a"), "alpha");
    assert_eq!(overlay.settle_all().unwrap(), 0);
    assert!(overlay.lookup(dir, b"n").is_err());
}

#[test]
fn a_long_file_settles_without_being_held_in_memory() {
    let bench = bench();
    let overlay = bench.open();
    let a = ino(&overlay, "a");
    let piece = vec![7; 1 << 20];
    for at in 0..40 {
        overlay.write(a, at << 20, &piece, false, CALLER).unwrap();
    }
    overlay.fsync(a).unwrap();
    let sha256 = Digest::of(&vec![7; 40 << 20]);
    assert_eq!(bench.gate.version_bytes(&sha256).len(), 40 << 20);
    // The version stands by itself: a later write leaves it as it was.
    overlay.write(a, 0, b"other", false, CALLER).unwrap();
    assert_eq!(bench.gate.version_bytes(&sha256)[0], 7);
    assert_eq!(overlay.read(a, 0, 6, <[u8]>::to_vec).unwrap(), b"other\x07");
}

#[test]
fn a_truncation_that_was_logged_and_not_done_is_done() {
    let bench = bench();
    let overlay = bench.open();
    let a = ino(&overlay, "a");
    overlay.write(a, 5, b" and more", false, CALLER).unwrap();
    let working = bench.dir.path().join("work").join(format!("{a:016x}"));
    let before = fs::read(&working).unwrap();
    let cut = SetAttr {
        size: Some(0),
        ..SetAttr::default()
    };
    overlay.setattr(a, &cut, CALLER).unwrap();
    drop(overlay);
    fs::write(&working, before).unwrap();
    let overlay = bench.open();
    assert_eq!(text(&overlay, "a"), "");
}

#[test]
fn a_version_that_a_power_loss_took_is_said_to_be_lost() {
    let bench = bench();
    let overlay = bench.open();
    let dir = overlay.lookup(1, b"w").unwrap().attr.ino;
    let made = overlay.create(dir, b"new", 0o644, CALLER).unwrap().ino;
    overlay.write(made, 0, b"fresh", false, CALLER).unwrap();
    overlay
        .write(ino(&overlay, "b"), 0, b"B", false, CALLER)
        .unwrap();
    overlay.settle_all().unwrap();
    drop(overlay);
    let lost = bench.gate.dir.join(Digest::of(b"fresh").hex());
    fs::remove_file(lost).unwrap();
    let overlay = bench.try_open(false).unwrap();
    assert_eq!(text(&overlay, "new"), "");
    assert_eq!(text(&overlay, "b"), "Beta");
    assert_eq!(recovered(&bench), [("w/new".into(), 0, vec![(0, 5)])]);
    let voided = bench
        .gate
        .ops()
        .into_iter()
        .filter(|op| matches!(op, LogOp::Void { reason, .. } if reason.contains("power loss")));
    assert_eq!(voided.count(), 1);
    // The log says it for ever: opened again, nothing more is lost.
    drop(overlay);
    let overlay = bench.try_open(false).unwrap();
    assert_eq!(text(&overlay, "new"), "");
    assert_eq!(recovered(&bench).len(), 1);
}

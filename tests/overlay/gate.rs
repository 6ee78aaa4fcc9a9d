//! Every zone, every operation that changes something, and everybody who may try it: by table.
//!
//! What is refused changes nothing and is on record with its operation, path and rule;
//! what is allowed is on record too. Asked of the overlay without a mount.

#![expect(clippy::unwrap_used, reason = "a test says what it found by failing")]

mod without;

use crate::common::bench::{Bench, pattern};
use govfs::domain::gate::{Check, Grant, Halt, Held, Kept, RULES, Rules, Tried};
use govfs::domain::logop::LogOp;
use govfs::vfs::error::{Error, Result};
use govfs::vfs::overlay::{Caller, End, Overlay, RenameHow, SetAttr};

fn caller() -> Caller {
    Caller {
        uid: 1,
        gid: 1,
        pid: std::process::id(),
    }
}

/// Where things are tried: each directory has a tracked file `f`, and one rule of its own.
const PLACES: [(&str, Option<&str>); 7] = [
    ("mine", None),
    ("free", Some("not-claimed")),
    ("bobs", Some("held")),
    ("law", Some("protected")),
    ("guide", Some("sensitive")),
    ("outside", Some("role")),
    ("late", Some("expired")),
];

fn bench() -> Bench {
    let files: Vec<(String, String)> = PLACES
        .iter()
        .flat_map(|(dir, _)| {
            let name = |name: &str| format!("{dir}/{name}");
            [(name("f"), format!("{dir}\n")), (name("d/x"), "x\n".into())]
        })
        .chain([("mine/g".to_owned(), "g\n".to_owned())])
        .collect();
    let files: Vec<(&str, &str)> = (files.iter())
        .map(|(at, text)| (at.as_str(), text.as_str()))
        .collect();
    let bench = Bench::new(&files, &[]);
    *bench.gate.rules.lock().unwrap() = rules();
    bench
}

fn rules() -> Rules {
    let claim = |id, text: &str, until_boot_ms| Grant {
        id,
        pattern: pattern(text),
        until_boot_ms,
        beyond_role: false,
    };
    let mut rules = Rules::new(vec![
        claim(1, "mine", None),
        claim(2, "law", None),
        claim(3, "guide/**", None),
        claim(4, "outside", None),
        claim(5, "late", Some(0)),
    ]);
    let role = ["mine", "free", "bobs", "law", "guide", "late"];
    rules.role = Some(role.iter().map(|text| pattern(text)).collect());
    rules.protected = vec![pattern("law")];
    rules.sensitive = vec![pattern("guide")];
    rules.others = vec![Held {
        agent: "bob".into(),
        pattern: pattern("bobs"),
    }];
    rules
}

/// One place of one overlay.
struct At<'a> {
    overlay: &'a Overlay,
    dir: u64,
    file: u64,
    mine: u64,
}

impl At<'_> {
    fn rename(&self, from: (u64, &[u8]), to: (u64, &[u8]), how: RenameHow) -> Result<()> {
        let end = |(dir, name)| End { dir, name };
        self.overlay.rename(end(from), end(to), how, caller())
    }

    fn set(&self, set: SetAttr) -> Result<()> {
        let done = self.overlay.setattr(self.file, &set, caller());
        done.map(drop)
    }
}

type Act = fn(&At<'_>) -> Result<()>;

type Change = fn(&mut Rules);

/// Every call that can change something, and the word under which a refusal of it stands.
const OPERATIONS: [(&str, Tried, Act); 22] = [
    ("write", Tried::Write, |at| {
        let done = at.overlay.write(at.file, 0, b"EVIL", false, caller());
        done.map(drop)
    }),
    ("write back of a mapped page", Tried::Write, |at| {
        let done = at.overlay.write(at.file, 0, b"EVIL", true, caller());
        done.map(drop)
    }),
    ("empty", Tried::Truncate, |at| {
        at.set(SetAttr {
            size: Some(0),
            ..SetAttr::default()
        })
    }),
    ("cut", Tried::Truncate, |at| {
        at.set(SetAttr {
            size: Some(2),
            ..SetAttr::default()
        })
    }),
    ("grow", Tried::Truncate, |at| {
        at.set(SetAttr {
            size: Some(9000),
            ..SetAttr::default()
        })
    }),
    ("allocate", Tried::Allocate, |at| {
        at.overlay.allocate(at.file, 0, 9000, 0, caller())
    }),
    ("punch", Tried::Allocate, |at| {
        let how = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        at.overlay.allocate(at.file, 0, 2, how, caller())
    }),
    ("zero", Tried::Allocate, |at| {
        let how = libc::FALLOC_FL_ZERO_RANGE;
        at.overlay.allocate(at.file, 0, 2, how, caller())
    }),
    ("copy into", Tried::Write, |at| {
        let from = at.overlay.lookup(at.mine, b"g")?.attr.ino;
        let done = (at.overlay).copy_range((from, 0), (at.file, 0), 2, caller());
        done.map(drop)
    }),
    ("mode", Tried::Mode, |at| {
        at.set(SetAttr {
            mode: Some(0o755),
            ..SetAttr::default()
        })
    }),
    ("times", Tried::Times, |at| {
        at.set(SetAttr {
            mtime: Some(7),
            ..SetAttr::default()
        })
    }),
    ("attribute", Tried::Xattr, |at| {
        at.overlay
            .set_xattr(at.file, b"user.evil", Some(b"1"), 0, caller())
    }),
    ("create", Tried::Create, |at| {
        let made = at.overlay.create(at.dir, b"new", 0o644, caller());
        made.map(drop)
    }),
    ("mknod of a file", Tried::Create, |at| {
        let made = at.overlay.mknod(at.dir, b"new", (0o644, 0), caller());
        made.map(drop)
    }),
    ("mkdir", Tried::Mkdir, |at| {
        at.overlay.mkdir(at.dir, b"new", 0o755, caller()).map(drop)
    }),
    ("symlink", Tried::Symlink, |at| {
        let made = at.overlay.symlink(at.dir, b"new", b"f", caller());
        made.map(drop)
    }),
    ("unlink", Tried::Unlink, |at| {
        at.overlay.unlink(at.dir, b"f", caller())
    }),
    ("rename away", Tried::RenameFrom, |at| {
        at.rename((at.dir, b"f"), (at.mine, b"new"), RenameHow::Replace)
    }),
    ("rename onto", Tried::RenameTo, |at| {
        at.rename((at.mine, b"g"), (at.dir, b"f"), RenameHow::Replace)
    }),
    ("rename into", Tried::RenameTo, |at| {
        at.rename((at.mine, b"g"), (at.dir, b"new"), RenameHow::NoReplace)
    }),
    ("exchange", Tried::RenameTo, |at| {
        at.rename((at.mine, b"g"), (at.dir, b"f"), RenameHow::Exchange)
    }),
    ("rename of a directory", Tried::RenameFrom, |at| {
        at.rename((at.dir, b"d"), (at.mine, b"new"), RenameHow::Replace)
    }),
];

/// Tries one operation at one place of a fresh session, under what `change` makes of the rules.
fn attempt(place: &str, act: Act, change: impl FnOnce(&mut Rules)) -> (Result<()>, Bench, bool) {
    attempt_at(bench(), place, act, change)
}

/// The same with one check of the gate left out.
fn attempt_without(
    check: Check,
    place: &str,
    act: Act,
    change: impl FnOnce(&mut Rules),
) -> (Result<()>, Bench, bool) {
    let mut bench = bench();
    bench.checks = Kept::without(check);
    attempt_at(bench, place, act, |rules| {
        change(rules);
        rules.kept = Kept::without(check);
    })
}

fn attempt_at(
    bench: Bench,
    place: &str,
    act: Act,
    change: impl FnOnce(&mut Rules),
) -> (Result<()>, Bench, bool) {
    let overlay = bench.open();
    let dir = |name: &str| overlay.lookup(1, name.as_bytes()).unwrap().attr.ino;
    let at = At {
        overlay: &overlay,
        dir: dir(place),
        file: overlay.lookup(dir(place), b"f").unwrap().attr.ino,
        mine: dir("mine"),
    };
    change(&mut bench.gate.rules.lock().unwrap());
    let done = act(&at);
    let read = |dir: u64, name: &[u8]| {
        let ino = overlay.lookup(dir, name)?.attr.ino;
        overlay.read(ino, 0, 100, <[u8]>::to_vec)
    };
    let same = read(at.dir, b"f").is_ok_and(|bytes| bytes == format!("{place}\n").as_bytes())
        && read(at.mine, b"g").is_ok_and(|bytes| bytes == b"g\n")
        && overlay.lookup(at.dir, b"new").is_err()
        && overlay.lookup(at.mine, b"new").is_err()
        && overlay.lookup(at.dir, b"d").is_ok()
        && overlay.lookup(at.file, b"").is_err();
    (done, bench, same)
}

fn refused(what: &str, rule: &str, tried: Tried, (done, bench, same): (Result<()>, Bench, bool)) {
    assert!(matches!(done, Err(Error::Denied)), "{what}: {done:?}");
    assert!(same, "{what}: refused, but something changed");
    let denied = bench.gate.denied_rules();
    let ends = tried == Tried::RenameTo || tried == Tried::RenameFrom;
    let as_said =
        |at: Tried| at == tried || (ends && [Tried::RenameTo, Tried::RenameFrom].contains(&at));
    assert!(
        matches!(&denied[..], [(_, at, why)] if as_said(*at) && *why == rule),
        "{what}: {denied:?}"
    );
    let ops = bench.gate.ops();
    assert!(
        matches!(&ops[..], [LogOp::Denied { by, .. }] if by.pid == std::process::id() && by.exe.is_some()),
        "{what}: {ops:?}"
    );
}

/// A directory on the way to what a wildcard claims may be made: each file in it is
/// asked about by itself.
fn is_way(name: &str, rule: &str) -> bool {
    (name, rule) == ("mkdir", "sensitive")
}

#[test]
fn every_operation_is_decided_by_the_place_it_touches() {
    for (place, rule) in PLACES {
        for (name, tried, act) in OPERATIONS {
            let what = format!("{name} in {place}");
            let tried_one = attempt(place, act, |_| {});
            if let Some(rule) = rule.filter(|rule| !is_way(name, rule)) {
                refused(&what, rule, tried, tried_one);
                continue;
            }
            let (done, bench, _) = tried_one;
            done.unwrap_or_else(|error| panic!("{what}: {error}"));
            let ops = bench.gate.ops();
            assert!(!ops.is_empty(), "{what} left no entry");
            assert!(
                !ops.iter().any(|op| matches!(op, LogOp::Denied { .. })),
                "{what}: {ops:?}"
            );
        }
    }
}

#[test]
fn what_a_handle_may_is_asked_again_at_every_operation() {
    let changes: [(&str, Change); 6] = [
        ("frozen", |rules| rules.halt = Some(Halt::Frozen)),
        ("ended", |rules| rules.halt = Some(Halt::Ended)),
        ("not-claimed", |rules| *rules = Rules::default()),
        ("protected", |rules| rules.protected.push(pattern("mine"))),
        ("sensitive", |rules| {
            rules.sensitive.push(pattern("mine"));
            let claims = vec![Grant {
                id: 1,
                pattern: pattern("mine/**"),
                until_boot_ms: None,
                beyond_role: false,
            }];
            let sensitive = std::mem::take(&mut rules.sensitive);
            *rules = Rules::new(claims);
            rules.sensitive = sensitive;
        }),
        ("role", |rules| rules.role = Some(Vec::new())),
    ];
    for (rule, change) in changes {
        for (name, tried, act) in OPERATIONS {
            if is_way(name, rule) {
                continue;
            }
            let what = format!("{name}, {rule} since it was opened");
            refused(&what, rule, tried, attempt("mine", act, change));
        }
    }
}

#[test]
fn what_git_cannot_keep_is_made_nowhere_among_governed_files() {
    for (place, _) in PLACES {
        let kinds: [(&str, Tried, Act); 5] = [
            ("fifo", Tried::Mknod, |at| {
                let made = at
                    .overlay
                    .mknod(at.dir, b"new", (libc::S_IFIFO | 0o644, 0), caller());
                made.map(drop)
            }),
            ("socket", Tried::Mknod, |at| {
                let made = at
                    .overlay
                    .mknod(at.dir, b"new", (libc::S_IFSOCK | 0o644, 0), caller());
                made.map(drop)
            }),
            ("device", Tried::Mknod, |at| {
                let made =
                    at.overlay
                        .mknod(at.dir, b"new", (libc::S_IFCHR | 0o644, 0x103), caller());
                made.map(drop)
            }),
            ("set-id bit", Tried::Mode, |at| {
                at.set(SetAttr {
                    mode: Some(0o4755),
                    ..SetAttr::default()
                })
            }),
            ("other owner", Tried::Owner, |at| {
                at.set(SetAttr {
                    uid: Some(4242),
                    ..SetAttr::default()
                })
            }),
        ];
        for (name, tried, act) in kinds {
            let what = format!("{name} in {place}");
            refused(&what, "kind", tried, attempt(place, act, |_| {}));
        }
        let link: Act = |at| {
            at.overlay
                .link(at.file, at.mine, b"new", caller())
                .map(drop)
        };
        let (done, bench, same) = attempt(place, link, |_| {});
        assert!(
            matches!(done, Err(Error::NotPermitted)),
            "{place}: {done:?}"
        );
        assert!(same);
        assert_eq!(bench.gate.denied_rules()[0].2, "hard-link");
    }
}

#[test]
fn names_of_other_zones_are_nobodys() {
    let table: [(&str, &str); 7] = [
        (".GIT", "reserved"),
        ("git~1", "reserved"),
        (".git ", "reserved"),
        (".git::$INDEX_ALLOCATION", "reserved"),
        (".g\u{200c}it", "reserved"),
        (".git", "reserved"),
        (".gIt.", "reserved"),
    ];
    for (name, rule) in table {
        let bench = bench();
        let overlay = bench.open();
        let mine = overlay.lookup(1, b"mine").unwrap().attr.ino;
        let name = name.as_bytes();
        let moved = |from: &[u8]| {
            let (from, to) = (
                End {
                    dir: mine,
                    name: from,
                },
                End { dir: mine, name },
            );
            overlay.rename(from, to, RenameHow::Replace, caller())
        };
        let done = [
            overlay.create(mine, name, 0o644, caller()).map(drop),
            overlay.mkdir(mine, name, 0o755, caller()).map(drop),
            overlay.symlink(mine, name, b"f", caller()).map(drop),
            moved(b"f"),
            moved(b"d"),
        ];
        for result in done {
            assert!(matches!(result, Err(Error::Denied)), "{name:?}: {result:?}");
        }
        assert!(
            bench
                .gate
                .denied_rules()
                .iter()
                .all(|(_, _, why)| *why == rule)
        );
        assert!(overlay.lookup(mine, name).is_err());
    }
}

#[test]
fn in_scratch_everything_works_and_nothing_is_logged() {
    for (name, _, act) in OPERATIONS {
        let bench = bench();
        let overlay = bench.open();
        let mine = overlay.lookup(1, b"mine").unwrap().attr.ino;
        let top = overlay.mkdir(1, b"target", 0o755, caller()).unwrap().ino;
        let other = overlay.mkdir(top, b"other", 0o755, caller()).unwrap().ino;
        for (dir, file) in [(top, b"f"), (other, b"g")] {
            let made = overlay.create(dir, file, 0o644, caller()).unwrap().ino;
            overlay
                .write(made, 0, b"0123456789", false, caller())
                .unwrap();
        }
        overlay.mkdir(top, b"d", 0o755, caller()).unwrap();
        let at = At {
            overlay: &overlay,
            dir: top,
            file: overlay.lookup(top, b"f").unwrap().attr.ino,
            mine: other,
        };
        act(&at).unwrap_or_else(|error| panic!("{name} in scratch: {error}"));
        assert!(
            bench.gate.ops().is_empty(),
            "{name}: {:?}",
            bench.gate.ops()
        );
        // Between the zones nothing moves: programs copy, and the copy is logged.
        let (from, to) = (
            End {
                dir: mine,
                name: b"f",
            },
            End {
                dir: top,
                name: b"z",
            },
        );
        for (from, to) in [
            (from, to),
            (
                End {
                    dir: other,
                    name: b"g",
                },
                End {
                    dir: mine,
                    name: b"z",
                },
            ),
        ] {
            if overlay.lookup(from.dir, from.name).is_ok() {
                let moved = overlay.rename(from, to, RenameHow::Replace, caller());
                assert!(matches!(moved, Err(Error::CrossZone)), "{name}: {moved:?}");
            }
        }
    }
}

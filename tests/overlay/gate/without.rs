//! Each check of the gate left out in turn: what it refused goes through.

use super::*;

/// Every rule that stands behind a place or a state of the session, left out in turn: what it refused goes through.
#[test]
fn each_rule_of_the_gate_counts() {
    let none: Change = |_| {};
    let changes: [(&'static str, &str, Change); 8] = [
        ("not-claimed", "free", none),
        ("not-claimed", "bobs", none),
        ("protected", "law", none),
        ("sensitive", "guide", none),
        ("role", "outside", none),
        ("expired", "late", none),
        ("frozen", "mine", |rules| rules.halt = Some(Halt::Frozen)),
        ("ended", "mine", |rules| rules.halt = Some(Halt::Ended)),
    ];
    for (rule, place, change) in changes {
        for (name, _, act) in OPERATIONS {
            if is_way(name, rule) {
                continue;
            }
            let what = format!("{name} in {place}");
            let (done, ..) = attempt(place, act, change);
            assert!(matches!(done, Err(Error::Denied)), "{what}: {done:?}");
            let (done, ..) = attempt_without(Check::Rule(rule), place, act, change);
            assert!(done.is_ok(), "{what} without {rule}: {done:?}");
        }
    }
}

/// Each kind of operation is asked about by a question of its own.
#[test]
fn each_question_of_the_gate_counts() {
    let own: Act = |at| {
        let uid = at.overlay.getattr(at.file, caller())?.uid;
        at.set(SetAttr {
            uid: Some(uid),
            ..SetAttr::default()
        })
    };
    let operations = OPERATIONS
        .iter()
        .copied()
        .chain([("own", Tried::Owner, own)]);
    let mut asked: Vec<Tried> = Vec::new(); // and nothing else, for some operation
    for (name, tried, act) in operations {
        // A directory is asked about as something made and removed, and so is what lies beneath it: see below.
        if name == "rename of a directory" {
            continue;
        }
        let (done, ..) = attempt("free", act, |_| {});
        assert!(matches!(done, Err(Error::Denied)), "{name}: {done:?}");
        let (done, ..) = attempt_without(Check::Asking(tried), "free", act, |_| {});
        if done.is_ok() {
            asked.push(tried);
        }
    }
    let by_other_rules = [
        Tried::Open,    // the kernel refuses by the mode that the answer to `Write` shows
        Tried::Access,  // as before
        Tried::Link,    // refused everywhere
        Tried::Mknod,   // refused everywhere
        Tried::Unknown, // an attempt that the kernel refused
        Tried::Rmdir,   // tried below
    ];
    for tried in Tried::ALL {
        let known = asked.contains(&tried) || by_other_rules.contains(&tried);
        assert!(known, "nothing shows that {} is asked", tried.word());
    }
}

#[test]
fn the_questions_about_directories_count() {
    // An empty directory that was made under a claim which is gone.
    let remove = |check: Option<Check>| {
        let mut bench = bench();
        bench.checks = check.map_or_else(Kept::default, Kept::without);
        let overlay = bench.open();
        let mine = overlay.lookup(1, b"mine").unwrap().attr.ino;
        overlay.mkdir(mine, b"empty", 0o755, caller()).unwrap();
        *bench.gate.rules.lock().unwrap() = Rules::default();
        overlay.rmdir(mine, b"empty", caller())
    };
    assert!(matches!(remove(None), Err(Error::Denied)));
    assert!(remove(Some(Check::Asking(Tried::Rmdir))).is_ok());
    // A directory that a wildcard covers by its own name, and nothing beneath it.
    let narrow: Change = |rules| {
        let claims = ["mine", "free/*"].iter().enumerate();
        let claims = claims.map(|(id, text)| Grant {
            id: id as u64,
            pattern: pattern(text),
            until_boot_ms: None,
            beyond_role: false,
        });
        *rules = Rules::new(claims.collect());
    };
    let moved: Act = |at| at.rename((at.dir, b"d"), (at.mine, b"new"), RenameHow::Replace);
    let (done, ..) = attempt("free", moved, narrow);
    assert!(matches!(done, Err(Error::Denied)), "{done:?}");
    let (done, ..) = attempt_without(Check::Beneath, "free", moved, narrow);
    assert!(done.is_ok(), "{done:?}");
}

/// What is refused for everyone, whatever is claimed.
const NOBODYS: [(&str, &str, Act); 13] = [
    ("reserved", "create", |at| {
        let made = at.overlay.create(at.mine, b".GIT", 0o644, caller());
        made.map(drop)
    }),
    ("reserved", "mkdir", |at| {
        at.overlay
            .mkdir(at.mine, b"git~1", 0o755, caller())
            .map(drop)
    }),
    ("reserved", "rename", |at| {
        at.rename((at.mine, b"g"), (at.mine, b".Git"), RenameHow::Replace)
    }),
    ("reserved", "rename of a directory", |at| {
        at.rename((at.mine, b"d"), (at.mine, b".Git"), RenameHow::Replace)
    }),
    ("transient", "link by a name for saving", |at| {
        let made = at.overlay.symlink(at.mine, b".g.swp", b"f", caller());
        made.map(drop)
    }),
    ("transient", "exchange with an unfinished save", |at| {
        let made = at.overlay.create(at.mine, b".g.swp", 0o644, caller());
        made?;
        at.rename((at.mine, b".g.swp"), (at.mine, b"g"), RenameHow::Exchange)
    }),
    ("kind", "fifo", |at| {
        let mode = libc::S_IFIFO | 0o644;
        let made = at.overlay.mknod(at.mine, b"new", (mode, 0), caller());
        made.map(drop)
    }),
    ("kind", "set-id bit", |at| {
        at.set(SetAttr {
            mode: Some(0o4755),
            ..SetAttr::default()
        })
    }),
    ("kind", "other owner", |at| {
        at.set(SetAttr {
            uid: Some(4242),
            ..SetAttr::default()
        })
    }),
    ("hard-link", "link", |at| {
        let made = at.overlay.link(at.file, at.mine, b"new", caller());
        made.map(drop)
    }),
    ("gitdir", "hook", |at| {
        let git = at.overlay.lookup(1, b".git")?.attr.ino;
        at.overlay.mkdir(git, b"hooks", 0o755, caller()).map(drop)
    }),
    ("gitdir", "link in .git", |at| {
        let git = at.overlay.lookup(1, b".git")?.attr.ino;
        let made = at.overlay.symlink(git, b"HEAD.lock", b"/evil", caller());
        made.map(drop)
    }),
    ("gitdir", "alternates", |at| {
        let git = at.overlay.lookup(1, b".git")?.attr.ino;
        let made = at.overlay.create(git, b"commondir", 0o644, caller());
        made.map(drop)
    }),
];

fn by_name(rules: &mut Rules) {
    *rules = Rules::new(vec![Grant {
        id: 1,
        pattern: pattern("mine/g"),
        until_boot_ms: None,
        beyond_role: false,
    }]);
}

#[test]
fn each_rule_that_is_for_everyone_counts() {
    for (rule, name, act) in NOBODYS {
        let what = format!("{name}, {rule}");
        let rules = |(_, bench, _): (Result<()>, Bench, bool)| {
            let denied = bench.gate.denied_rules();
            denied
                .into_iter()
                .map(|(_, _, why)| why)
                .collect::<Vec<_>>()
        };
        // Names for saving derive from what is claimed by its own name.
        let change: Change = if rule == "transient" { by_name } else { |_| {} };
        let with = rules(attempt("mine", act, change));
        assert_eq!(with, [rule], "{what}");
        let (done, bench, same) = attempt_without(Check::Rule(rule), "mine", act, change);
        // Hard links are nowhere in the tree: without the rule there is still nothing to link to.
        let through = rule == "hard-link" || done.is_ok();
        assert!(through, "{what} left out: {done:?}");
        assert!(rules((done, bench, same)).is_empty(), "{what} left out");
    }
    let by_place = [
        "not-claimed",
        "protected",
        "sensitive",
        "role",
        "expired",
        "frozen",
        "ended",
    ];
    for (rule, _) in RULES {
        let shown = by_place.contains(&rule) || NOBODYS.iter().any(|(known, ..)| *known == rule);
        // A claim of somebody else's is a reason for `not-claimed`; there is nothing behind `.govfs`.
        assert!(
            shown || ["held", "control"].contains(&rule),
            "nothing shows that {rule} counts"
        );
    }
}

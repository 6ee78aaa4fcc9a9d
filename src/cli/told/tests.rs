//! Every operation of both logs has its words.

use serde_json::json;

use super::*;
use crate::domain::digest::Digest;
use crate::domain::entry::{Encoder, Head, encode};
use crate::domain::event;
use crate::domain::logop::{self, Actor};

const OID: &str = "1234567890123456789012345678901234567890";

fn path(text: &str) -> RepoPath {
    RepoPath::parse(text.as_bytes()).expect(text)
}

/// One operation of each kind, in the order of their names.
#[expect(clippy::too_many_lines, reason = "a table")]
fn writes() -> Vec<LogOp> {
    let (claim, by) = (1, Actor::default());
    let sha256 = Digest::of(b"");
    let a = || path("src/a b.rs");
    let actor = || by.clone();
    vec![
        LogOp::Write {
            path: a(),
            offset: 10,
            len: 1,
            sha256,
            claim,
            by: actor(),
        },
        LogOp::Create {
            path: a(),
            mode: FileMode::Exec,
            claim,
            by: actor(),
        },
        LogOp::Mkdir {
            path: path("src"),
            claim,
            by: actor(),
        },
        LogOp::Symlink {
            path: a(),
            target: Bytes(b"../x".to_vec()),
            claim,
            by: actor(),
        },
        LogOp::Rename {
            path: a(),
            to: path("b"),
            exchange: false,
            claim,
            by: actor(),
        },
        LogOp::Unlink {
            path: a(),
            claim,
            by: actor(),
        },
        LogOp::Rmdir {
            path: path("src"),
            claim,
            by: actor(),
        },
        LogOp::Truncate {
            path: a(),
            size: 0,
            claim,
            by: actor(),
        },
        LogOp::Hole {
            path: a(),
            offset: 0,
            len: 4096,
            size: 5000,
            claim,
            by: actor(),
        },
        LogOp::Mode {
            path: a(),
            mode: FileMode::Plain,
            claim,
            by: actor(),
        },
        LogOp::Times {
            path: a(),
            mtime: 0,
            claim,
            by: actor(),
        },
        LogOp::Xattr {
            path: a(),
            name: Bytes(b"user.x".to_vec()),
            sha256: None,
            claim,
            by: actor(),
        },
        LogOp::Version {
            path: a(),
            size: 5,
            mode: FileMode::Plain,
            sha256,
        },
        LogOp::Denied {
            path: path("b\n"),
            tried: "write".to_owned(),
            rule: "held".to_owned(),
            reason: "bob holds b".to_owned(),
            count: 2,
            by: actor(),
        },
        LogOp::Recovered {
            path: a(),
            size: 5,
            sha256,
            lost: vec![(1, 3)],
        },
        LogOp::Void {
            entry: 7,
            reason: "no room".to_owned(),
        },
    ]
}

#[test]
fn every_write_log_operation_is_told() {
    let agent = "alice".parse().expect("a name");
    let session = "alice-1".parse().expect("a session");
    let mut encoder = Encoder::new(&agent, &session);
    let mut told = Vec::new();
    for (op, name) in writes().iter().zip(logop::OPS) {
        let encoded = encoder.encode(0, &Digest::ZERO, Timestamp(0), op);
        let text = encoded.text.strip_suffix(b"\n").expect("a line").to_vec();
        let line = Line::parse(&text).expect("a line");
        assert_eq!(line.op, name);
        told.push(entry(&line));
    }
    assert_eq!(told.len(), logop::OPS.len());
    insta::assert_snapshot!(told.join("\n"), @r"
    write        alice        src/a b.rs: 1 byte at 10
    create       alice        src/a b.rs (executable)
    mkdir        alice        src/
    symlink      alice        src/a b.rs -> ../x
    rename       alice        src/a b.rs -> b
    unlink       alice        src/a b.rs
    rmdir        alice        src/
    truncate     alice        src/a b.rs to 0 bytes
    hole         alice        src/a b.rs: 4096 bytes of zeroes at 0
    mode         alice        src/a b.rs is not executable now
    times        alice        src/a b.rs modified 1970-01-01 00:00:00
    xattr        alice        src/a b.rs: user.x removed
    version      alice        src/a b.rs: 5 bytes, e3b0c44298fc
    denied       alice        write b%0A: bob holds b (rule held, x2)
    recovered    alice        src/a b.rs: 5 bytes found after a crash, 2 bytes lost
    void         alice        entry 7 came to nothing: no room
    ");
}

fn of_body(op: &str, body: serde_json::Value) -> String {
    let head = Head {
        seq: 0,
        prev: Digest::ZERO,
        ts: Timestamp(0),
        op,
        agent: Some("alice"),
        session: None,
    };
    let body = body.as_object().expect("an object");
    let text = encode(&head, body).expect("a line");
    entry(&Line::parse(&text).expect("a line"))
}

#[test]
fn every_ledger_operation_is_told() {
    let hash = Digest::of(b"").to_string();
    let free = json!([{"id": 1, "generation": 1, "pattern": "src/%2A"}]);
    let lease = json!({"from": Timestamp(0), "ttl_ms": 7_200_000, "boot": "b", "boot_ms": 0});
    let bodies = [
        (
            "charter",
            json!({"sha256": hash, "source": {"commit": OID}, "text": ""}),
        ),
        (
            "key",
            json!({"origin": "govfs-00000000000000000000000000000000", "public": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"}),
        ),
        (
            "agent",
            json!({"role": "core", "engine": "codex", "person": false}),
        ),
        (
            "claim",
            json!({"decision": "allow", "mode": "write", "patterns": ["src/%2A"], "lease": lease, "plan": "p1"}),
        ),
        ("release", json!({"claims": free})),
        ("expire", json!({"boot": "b", "boot_ms": 1, "claims": free})),
        (
            "session",
            json!({"base": OID, "branch": "main", "charter": hash, "config": {"autocrlf": "", "eol": ""}, "root": "/r"}),
        ),
        (
            "launch",
            json!({"tier": "A", "argv": ["sh", "-c", "a%0Ab%20c"], "uid": 0, "widenings": ["--net"]}),
        ),
        ("mount", json!({"dir": "/mnt/x", "uid": 0, "pid": 12})),
        ("unmount", json!({"dir": "/mnt/x", "forced": true})),
        ("seal", json!({"count": 2, "head": hash, "root": hash})),
        (
            "request",
            json!({"mode": "write", "patterns": ["docs"], "ttl_ms": 60_000, "reason": "a\nb"}),
        ),
        ("grant", json!({"request": 4, "reason": ""})),
        ("deny", json!({"request": 4, "reason": "not now"})),
        (
            "plan",
            json!({"action": "add", "plan": "p1", "sha256": hash}),
        ),
        (
            "queue",
            json!({"plan": "p1", "state": "in_progress", "decision": "deny", "owner": "bob", "reason": "not eligible"}),
        ),
        (
            "review",
            json!({"action": "approve", "base": OID, "tree": OID, "decision": "allow", "reviewer": "bob", "message": "fine"}),
        ),
        (
            "merge-intent",
            json!({"branch": "main", "commit": OID, "onto": OID, "tree": OID, "count": 3}),
        ),
        (
            "merge",
            json!({"decision": "deny", "branch": "main", "base": OID, "onto": OID, "tree": OID, "tier": "A", "count": 3, "refusals": [{"rule": "review", "path": "src/a", "reason": "nobody looked", "hint": ""}, {"rule": "x", "reason": "y", "hint": ""}]}),
        ),
        ("abandon", json!({"claims": free, "count": 1})),
        (
            "revert",
            json!({"merge": 9, "branch": "main", "commit": OID, "onto": OID, "tree": OID, "paths": []}),
        ),
        (
            "sync",
            json!({"decision": "deny", "from": OID, "base": OID, "count": 3, "conflicts": ["src/a"]}),
        ),
        (
            "checkpoint",
            json!({"origin": "govfs-00000000000000000000000000000000", "size": 7, "root": hash}),
        ),
        (
            "fork",
            json!({"origin": "govfs-00000000000000000000000000000001", "old": {"origin": "govfs-00000000000000000000000000000000", "size": 7, "root": hash}, "place": {"device": 1, "inode": 2, "path": "/r"}, "public": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"}),
        ),
        (
            "gc",
            json!({"versions": [hash], "bytes": 2048, "logs": [], "before": Timestamp(0)}),
        ),
        ("protect", json!({"branch": "main", "on": true})),
        (
            "fleet",
            json!({"action": "launch", "plan": "p1", "attempt": 2, "pid": 12}),
        ),
    ];
    assert_eq!(bodies.each_ref().map(|(op, _)| *op), event::OPS);
    let told = bodies.map(|(op, body)| of_body(op, body));
    for line in &told {
        assert!(!line.contains('='), "shown field by field: {line}");
    }
    let shown: Vec<_> = told.iter().map(|line| screen::calm(line)).collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    charter      alice        e3b0c44298fc is in force, of commit 123456789012
    key          alice        d75a980182b1 is the first, for govfs-00000000000000000000000000000000
    agent        alice        role core, codex
    claim        alice        write src/* for 2h, for plan p1
    release      alice        src/*
    expire       alice        src/*: not used in time
    session      alice        on main at 123456789012
    launch       alice        tier A: sh -c $'a\nb c'; widened: --net
    mount        alice        at /mnt/x, served by process 12
    unmount      alice        from /mnt/x, by force
    seal         alice        2 entries, head e3b0c44298fc
    request      alice        asks to write docs for 1m: a\nb
    grant        alice        request 4
    deny         alice        request 4: not now
    plan         alice        p1 added, e3b0c44298fc
    queue        alice        p1 to in_progress, of bob, refused: not eligible
    review       alice        bob approves 123456789012: fine
    merge-intent alice        main is about to move to 123456789012
    merge        alice        into main, refused: src/a: nobody looked (and 1 more)
    abandon      alice        1 entry given up, frees src/*
    revert       alice        merge 9 is undone: main is at 123456789012
    sync         alice        base 123456789012 to 123456789012, refused: conflicts in src/a
    checkpoint   alice        7 entries, root e3b0c44298fc
    fork         alice        goes on as govfs-00000000000000000000000000000001 after 7 entries of govfs-00000000000000000000000000000000
    gc           alice        2.0 KiB freed: 1 content, 0 logs packed
    protect      alice        main is protected
    fleet        alice        launches p1, attempt 2, process 12
    ");
}

#[test]
fn what_cannot_be_read_is_shown_field_by_field() {
    let told = of_body(
        "novelty",
        json!({"path": "a%20b", "n": 1, "deep": {"x": 1}}),
    );
    assert_eq!(told, "novelty      alice        n=1 path=a b");
}

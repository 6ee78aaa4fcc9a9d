//! The format's golden lines, its one spelling, and chains that were changed.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::domain::logop::{Actor, Bytes, FileMode, LogOp};
use crate::domain::path::RepoPath;

/// Both written by Python's `json.dumps` and hashed by its `hashlib`.
const CONTROL: &str = r#"{"v":1,"seq":0,"prev":"0000000000000000000000000000000000000000000000000000000000000000","ts":"2026-11-20T06:30:00.000000000Z","op":"agent","agent":"alice","engine":"human","list":[1,-2,null,true,{"a":{},"b":[]}],"note":"tab\t quote\" \\ \u007f \u00e9 \ud83d\ude00 \u0001","zz":-9223372036854775808,"\u00e9":18446744073709551615,"\uffff":1,"\ud83d\ude00":2}"#;
const CONTROL_LEAF: &str = "db90241775ad414dde4d7c5d96b680cde1700420c0ca572f2aa29af8e0f33c44";
const WRITE: &str = r#"{"v":1,"seq":7,"prev":"db90241775ad414dde4d7c5d96b680cde1700420c0ca572f2aa29af8e0f33c44","ts":"2026-11-20T06:30:00.000000007Z","op":"write","agent":"alice","session":"alice-1","claim":3,"exe":"/usr/bin/python3","len":5,"offset":4096,"path":"src/a%20b%0A%C3%A9.rs","pid":4711,"sha256":"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824","start":99}"#;
const WRITE_LEAF: &str = "ce75fd6e4358cbbd084e5e9a558746ffb20477a22cd527974add59da914d3b3f";
const TS: i64 = 1_795_156_200_000_000_000;

fn encoder() -> Encoder {
    Encoder::new(&"alice".parse().unwrap(), &"alice-1".parse().unwrap())
}

fn path(text: &str) -> RepoPath {
    RepoPath::parse(text.as_bytes()).unwrap()
}

fn head(line: &Line<'_>) -> Head<'static> {
    Head {
        seq: line.seq,
        prev: line.prev,
        ts: line.ts,
        op: String::from(line.op).leak(),
        agent: line.agent.map(|name| &*String::from(name).leak()),
        session: line.session.map(|name| &*String::from(name).leak()),
    }
}

#[test]
fn the_golden_lines_are_read_written_and_hashed_as_elsewhere() {
    for (text, leaf_hex) in [(CONTROL, CONTROL_LEAF), (WRITE, WRITE_LEAF)] {
        let line = Line::parse(text.as_bytes()).unwrap();
        assert_eq!(leaf(line.bytes()).hex(), leaf_hex);
        let again = encode(&head(&line), &line.body().unwrap()).unwrap();
        assert_eq!(String::from_utf8(again).unwrap(), text);
    }
    let line = Line::parse(CONTROL.as_bytes()).unwrap();
    assert_eq!((line.seq, line.prev), (0, Digest::ZERO));
    assert_eq!(
        (line.op, line.agent, line.session),
        ("agent", Some("alice"), None)
    );
    assert_eq!(line.get("engine"), Some(&b"\"human\""[..]));
    assert_eq!(
        line.body().unwrap()["note"],
        json!("tab\t quote\" \\ \x7f é 😀 \x01")
    );
}

#[test]
fn a_write_is_encoded_as_elsewhere_and_read_back() {
    let op = LogOp::Write {
        path: path("src/a b\né.rs"),
        offset: 4096,
        len: 5,
        sha256: Digest::of(b"hello"),
        claim: 3,
        by: Actor {
            pid: 4711,
            exe: Some(Bytes(b"/usr/bin/python3".to_vec())),
            start: Some(99),
        },
    };
    let mut encoder = encoder();
    let prev = CONTROL_LEAF.parse().unwrap();
    for _ in 0..2 {
        let made = encoder.encode(7, &prev, Timestamp(TS + 7), &op);
        assert_eq!(made.text, [WRITE.as_bytes(), b"\n"].concat());
        assert_eq!(made.leaf.hex(), WRITE_LEAF);
    }
    let line = Line::parse(WRITE.as_bytes()).unwrap();
    assert_eq!(decode(&line), Ok(op));
    assert_eq!(line.session, Some("alice-1"));
    assert_eq!(line.natural("len"), Some(5));
    assert_eq!(line.digest("sha256"), Some(Digest::of(b"hello")));
}

/// A line whose body is `members`.
fn with(members: &str) -> String {
    let zeros = "0".repeat(64);
    format!(
        r#"{{"v":1,"seq":0,"prev":"{zeros}","ts":"2026-11-20T06:30:00.000000000Z","op":"x"{members}}}"#
    )
}

#[test]
fn only_the_one_spelling_of_a_body_is_read() {
    let deep = |n: usize| format!(r#","a":{}1{}"#, "[".repeat(n), "]".repeat(n));
    let good = [
        String::new(),
        r#","agent":"a""#.into(),
        r#","agent":"a","session":"a-1""#.into(),
        r#","session":"a-1","b":0"#.into(),
        r#","a":{},"b":[],"c":"","d":[[],{}],"e":{"a":1,"b":2}"#.into(),
        r#","":1,"a":-1,"a b":1"#.into(),
        r#","\n":1,"\u000b":1," ":1,"a":1,"\u007f":1"#.to_string(),
        deep(DEPTH_MAX - 1),
    ];
    for members in &good[..6] {
        let text = with(members);
        let line = Line::parse(text.as_bytes()).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        let again = encode(&head(&line), &line.body().unwrap()).unwrap();
        assert_eq!(String::from_utf8(again).unwrap(), text);
    }
    assert!(Line::parse(with(&good[7]).as_bytes()).is_ok());
    let bad = [
        r#","b":1,"a":1"#,
        r#","a":1,"a":1"#,
        r#","\u00e9":1,"z":1"#,
        r#","seq":1"#,
        r#","agent":1"#,
        r#","agent":"""#,
        r#","agent":"a b""#,
        r#","session":"s","agent":"a""#,
        r#","a":"x","session":"s""#,
        r#","a": 1"#,
        r#", "a":1"#,
        r#","a":1 "#,
        r#","a":01"#,
        r#","a":-0"#,
        r#","a":-"#,
        r#","a":+1"#,
        r#","a":1.0"#,
        r#","a":1e3"#,
        r#","a":18446744073709551616"#,
        r#","a":-9223372036854775809"#,
        r#","a":[1,]"#,
        r#","a":[,1]"#,
        r#","a":{"b":1,"b":1}"#,
        r#","a":{"c":1,"b":1}"#,
        r#","a":{"c":1,}"#,
        r#","a":{,"c":1}"#,
        r#","a":tru"#,
        r#","a":True"#,
        r#","a""#,
        r#","a":"#,
        r#","a":"x"#,
        r#","a":"é""#,
        r#","a":"\/""#,
        r#","a":"\u000a""#,
        r#","a":"\u0041""#,
        r#","a":"\u00E9""#,
        r#","a":"\u00e""#,
        r#","a":"\ud83d""#,
        r#","a":"\ud83dx""#,
        r#","a":"\ude00\ud83d""#,
        r#","a":"\'""#,
        "},",
        "}",
        "\n",
        ",\"a\":\"\t\"",
        ",\"a\":\"\u{7f}\"",
    ];
    for members in bad {
        let text = with(members);
        assert!(Line::parse(text.as_bytes()).is_err(), "{text}");
    }
    assert!(Line::parse(with(&deep(DEPTH_MAX)).as_bytes()).is_err());
}

#[test]
fn only_the_one_spelling_of_a_head_is_read() {
    for (from, to) in [
        ("\"v\":1", "\"v\":2"),
        ("\"v\":1", "\"v\": 1"),
        ("\"seq\":7", "\"seq\":07"),
        ("\"seq\":7", "\"seq\":-7"),
        ("\"seq\":7", "\"seq\":\"7\""),
        ("\"seq\":7", "\"seq\":18446744073709551616"),
        ("db90", "DB90"),
        ("db90", "db9"),
        ("2026-11-20T", "2026-11-20t"),
        ("2026-11-20", "2026-02-30"),
        (".000000007Z", ".00000007Z"),
        ("\"op\":\"write\"", "\"op\":\"Write\""),
        ("\"op\":\"write\"", "\"op\":\"\""),
        ("\"op\":\"write\"", "\"op\":\"-\""),
        ("\"op\":\"write\",", ""),
        ("{\"v\"", " {\"v\""),
    ] {
        let text = WRITE.replacen(from, to, 1);
        assert_ne!(text, WRITE);
        assert!(Line::parse(text.as_bytes()).is_err(), "{text}");
    }
    for cut in 0..WRITE.len() {
        assert!(
            Line::parse(&WRITE.as_bytes()[..cut]).is_err(),
            "cut at {cut}"
        );
    }
    assert!(Line::parse(format!("{WRITE}\n").as_bytes()).is_err());
}

#[test]
fn a_fault_says_where() {
    let text = with(r#","a":1,"b":1.5"#);
    let at = text.find(".5").unwrap();
    let fault = Line::parse(text.as_bytes()).unwrap_err();
    assert!(
        matches!(fault, EntryFault::Malformed { at: found, .. } if found == at),
        "{fault}"
    );
}

#[test]
fn what_no_reader_would_take_is_not_written() {
    let head = |op, agent| Head {
        seq: 0,
        prev: Digest::ZERO,
        ts: Timestamp(TS),
        op,
        agent,
        session: None,
    };
    let map = |value: Value| value.as_object().unwrap().clone();
    assert!(encode(&head("x", Some("a")), &map(json!({"a": 1}))).is_ok());
    for (op, agent, body) in [
        ("X", None, json!({})),
        ("", None, json!({})),
        ("x", Some("a b"), json!({})),
        ("x", None, json!({"seq": 1})),
        ("x", None, json!({"agent": "a"})),
        ("x", None, json!({"a": 1.5})),
        ("x", None, json!({"a": [{"b": 1e300}]})),
    ] {
        let made = encode(&head(op, agent), &map(body.clone()));
        assert!(made.is_err(), "{op} {body}");
    }
    let mut deep = json!(1);
    for _ in 0..DEPTH_MAX {
        deep = json!([deep]);
    }
    assert!(encode(&head("x", None), &map(json!({"a": deep}))).is_err());
}

/// Lines of a small ledger, made by the generic writer.
fn lines(count: u64) -> Vec<Vec<u8>> {
    let mut chain = Chain::new(Digest::ZERO);
    (0..count)
        .map(|n| {
            let ts = chain.stamp(Timestamp(TS - i64::try_from(n).unwrap()));
            let head = Head {
                seq: chain.seq(),
                prev: chain.prev(),
                ts,
                op: "note",
                agent: None,
                session: None,
            };
            let body = Map::from_iter([("n".to_owned(), json!(n))]);
            let line = encode(&head, &body).unwrap();
            chain.advance(leaf(&line), ts);
            line
        })
        .collect()
}

fn follow(lines: &[Vec<u8>]) -> Result<(), ChainFault> {
    let mut chain = Chain::new(Digest::ZERO);
    lines
        .iter()
        .try_for_each(|line| chain.push(line).map(|_| ()))
}

#[test]
fn a_chain_holds_though_the_clock_runs_backwards_and_breaks_where_it_was_changed() {
    let good = lines(9);
    assert_eq!(follow(&good), Ok(()));
    let broken_at = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut lines = good.clone();
        change(&mut lines);
        follow(&lines).unwrap_err()
    };
    let fault = broken_at(&|lines| {
        lines.remove(4);
    });
    assert_eq!((fault.seq, fault.broken), (4, Broken::Seq { found: 5 }));
    let fault = broken_at(&|lines| lines.swap(2, 3));
    assert_eq!((fault.seq, fault.broken), (2, Broken::Seq { found: 3 }));
    let fault = broken_at(&|lines| lines.insert(6, lines[5].clone()));
    assert_eq!((fault.seq, fault.broken), (6, Broken::Seq { found: 5 }));
    let fault = broken_at(&|lines| *lines[3].iter_mut().rev().nth(1).unwrap() ^= 1);
    assert_eq!(fault.seq, 4);
    assert!(matches!(fault.broken, Broken::Prev { .. }), "{fault}");
    let fault = broken_at(&|lines| lines[3][20] = b'!');
    assert!(matches!(fault.broken, Broken::Line(_)), "{fault}");
}

#[test]
fn time_that_does_not_grow_breaks_the_chain() {
    let mut chain = Chain::new(Digest::ZERO);
    let head = |chain: &Chain| Head {
        seq: chain.seq(),
        prev: chain.prev(),
        ts: Timestamp(TS),
        op: "note",
        agent: None,
        session: None,
    };
    let first = encode(&head(&chain), &Map::new()).unwrap();
    chain.push(&first).unwrap();
    let second = encode(&head(&chain), &Map::new()).unwrap();
    let fault = chain.push(&second).unwrap_err();
    assert!(matches!(fault.broken, Broken::Time { .. }), "{fault}");
    assert_eq!(chain.stamp(Timestamp(0)), Timestamp(TS + 1));
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(1_u8.., 1..12)
}

fn any_path() -> impl Strategy<Value = RepoPath> {
    any_bytes().prop_filter_map("no path", |bytes| RepoPath::parse(&bytes).ok())
}

fn any_actor() -> impl Strategy<Value = Actor> {
    (
        any::<u32>(),
        proptest::option::of(any_bytes()),
        any::<Option<u64>>(),
    )
        .prop_map(|(pid, exe, start)| Actor {
            pid,
            exe: exe.map(Bytes),
            start,
        })
}

fn any_digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

fn any_mode() -> impl Strategy<Value = FileMode> {
    prop_oneof![
        Just(FileMode::Plain),
        Just(FileMode::Exec),
        Just(FileMode::Symlink)
    ]
}

#[rustfmt::skip]
fn any_op() -> impl Strategy<Value = LogOp> {
    let parts = (
        (any_path(), any_path(), any_bytes(), any_actor()),
        (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<i64>()),
        (any_digest(), any::<bool>(), any_mode(), any::<(String, String)>()),
        proptest::collection::vec(any::<(u64, u64)>(), 0..4),
    );
    (0..16, parts).prop_map(|(which, parts)| {
        let ((path, to, bytes, by), (claim, offset, len, size, mtime), (sha256, flag, mode, (tried, reason)), lost) = parts;
        let bytes = Bytes(bytes);
        match which {
            0 => LogOp::Write { path, offset, len, sha256, claim, by },
            1 => LogOp::Create { path, mode, claim, by },
            2 => LogOp::Mkdir { path, claim, by },
            3 => LogOp::Symlink { path, target: bytes, claim, by },
            4 => LogOp::Rename { path, to, exchange: flag, claim, by },
            5 => LogOp::Unlink { path, claim, by },
            6 => LogOp::Rmdir { path, claim, by },
            7 => LogOp::Truncate { path, size, claim, by },
            8 => LogOp::Hole { path, offset, len, size, claim, by },
            9 => LogOp::Mode { path, mode, claim, by },
            10 => LogOp::Times { path, mtime, claim, by },
            11 => LogOp::Xattr { path, name: bytes, sha256: flag.then_some(sha256), claim, by },
            12 => LogOp::Version { path, size, mode, sha256 },
            13 => LogOp::Denied { path, tried, rule: "held".into(), reason, count: len, by },
            14 => LogOp::Recovered { path, size, sha256, lost },
            _ => LogOp::Void { entry: size, reason },
        }
    })
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn every_operation_comes_back_from_its_line(op in any_op(), seq: u64, ns in 0_i64..TS) {
        let mut encoder = encoder();
        let prev = Digest::of(&ns.to_be_bytes());
        let made = encoder.encode(seq, &prev, Timestamp(ns), &op);
        let text = made.text.strip_suffix(b"\n").unwrap();
        let line = Line::parse(text).unwrap();
        prop_assert_eq!(made.leaf, leaf(text));
        prop_assert_eq!((line.seq, line.prev, line.ts), (seq, prev, Timestamp(ns)));
        prop_assert_eq!(decode(&line).unwrap(), op);
        let again = encode(&head(&line), &line.body().unwrap()).unwrap();
        prop_assert_eq!(again, text);
    }

    #[test]
    fn every_body_comes_back_from_its_line(
        body in proptest::collection::btree_map("[^a-z]{0,3}", any_value(), 0..5),
    ) {
        let body: Map<String, Value> = body.into_iter().collect();
        let head = Head {
            seq: 1,
            prev: Digest::ZERO,
            ts: Timestamp(TS),
            op: "merge-intent",
            agent: Some("a"),
            session: None,
        };
        let text = encode(&head, &body).unwrap();
        let line = Line::parse(&text).unwrap();
        prop_assert_eq!(line.body().unwrap(), body);
    }

    #[test]
    fn a_line_with_one_byte_changed_is_refused_or_another_canonical_line(
        at in 0..CONTROL.len(), bit in 0..8_u8,
    ) {
        let mut bytes = CONTROL.as_bytes().to_vec();
        bytes[at] ^= 1 << bit;
        prop_assert_ne!(leaf(&bytes).hex(), CONTROL_LEAF);
        if let Ok(line) = Line::parse(&bytes) {
            let again = encode(&head(&line), &line.body().unwrap()).unwrap();
            prop_assert_eq!(again, bytes);
        }
    }
}

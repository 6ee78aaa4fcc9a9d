//! Exports tampered with: each deed is found at its place by both programs.

use std::fs;

use govfs::domain::checkpoint::SecretKey;
use govfs::domain::entry::leaf;
use govfs::domain::export::charter_file;
use govfs::store::exported;

use super::{
    CHARTER, Export, export, files, found, python_accepts, python_key, secret, session_log,
};

type Tampering = (&'static str, &'static str, fn(&mut Export));

/// What it is, the place that the fault must name, and the deed.
const TAMPERINGS: [Tampering; 26] = [
    ("a row deleted", "ledger.jsonl entry 7:", |e| {
        e.ledger.remove(7);
    }),
    ("the first row deleted", "ledger.jsonl entry 0:", |e| {
        e.ledger.remove(0);
    }),
    ("rows swapped", "ledger.jsonl entry 7:", |e| {
        e.ledger.swap(7, 8);
    }),
    ("a row twice", "ledger.jsonl entry 8:", |e| {
        e.ledger.insert(8, e.ledger[7].clone());
    }),
    ("the end cut off", "ledger.jsonl entry 19:", |e| {
        e.ledger.pop();
    }),
    ("emptied", "ledger.jsonl entry 0:", |e| e.ledger.clear()),
    ("a row added", "ledger.jsonl entry 20:", |e| {
        e.ledger.push(e.ledger[19].clone());
    }),
    ("a value changed", "ledger.jsonl entry 9:", |e| {
        e.edit(9, "src/**", "srcX**");
    }),
    (
        "a value changed and chained anew",
        "ledger.jsonl entry 19:",
        |e| {
            e.edit(9, "src/**", "srcX**");
            e.relink(10);
        },
    ),
    (
        "another time, chained anew",
        "ledger.jsonl entry 19:",
        |e| {
            e.edit(9, "00009Z", "00008Z");
            e.relink(10);
            e.edit(9, "00008Z", "00009Z");
            e.edit(9, "\"id\":9", "\"id\":8");
            e.relink(10);
        },
    ),
    (
        "the same time twice, signed",
        "ledger.jsonl entry 9:",
        |e| {
            e.edit(9, "00009Z", "00008Z");
            e.relink(10);
            e.sign();
        },
    ),
    ("not canonical, signed", "ledger.jsonl entry 9:", |e| {
        e.edit(9, "\"decision\":", "\"decision\": ");
        e.relink(10);
        e.sign();
    }),
    ("keys out of order, signed", "ledger.jsonl entry 9:", |e| {
        e.edit(9, ",\"decision\":\"allow\"", "");
        e.edit(9, "\"claims\":", "\"decision\":\"allow\",\"claims\":");
        e.relink(10);
        e.sign();
    }),
    (
        "nested keys out of order, signed",
        "ledger.jsonl entry 9:",
        |e| {
            e.edit(9, "\"generation\":1,\"id\":9", "\"id\":9,\"generation\":1");
            e.relink(10);
            e.sign();
        },
    ),
    ("a fraction, signed", "ledger.jsonl entry 9:", |e| {
        e.edit(9, "\"generation\":1", "\"generation\":1.5");
        e.relink(10);
        e.sign();
    }),
    ("no number, signed", "ledger.jsonl entry 9:", |e| {
        e.edit(9, "\"generation\":1", "\"generation\":NaN");
        e.relink(10);
        e.sign();
    }),
    (
        "a seal dropped, signed",
        "sessions/alice-1.jsonl entry 3:",
        |e| {
            e.ledger.pop();
            e.sign();
        },
    ),
    (
        "a seal of something else, signed",
        "sessions/alice-2.jsonl entry 3:",
        |e| {
            e.edit(18, "\"root\":\"", "\"root\":\"0000");
            let line = String::from_utf8(e.ledger[18].clone()).unwrap();
            e.ledger[18] = line.replace("\"}", "").as_bytes()[..line.len() - 6].to_vec();
            e.ledger[18].extend_from_slice(b"\"}");
            e.relink(19);
            e.sign();
        },
    ),
    (
        "a log's row deleted",
        "sessions/alice-1.jsonl entry 4:",
        |e| {
            drop(e.sessions[0].1.remove(4));
        },
    ),
    (
        "a log's row changed",
        "sessions/alice-1.jsonl entry 4:",
        |e| {
            let line = e.sessions[0].1[4].len() - 10;
            e.sessions[0].1[4][line] ^= 1;
        },
    ),
    (
        "a log's end cut off",
        "sessions/alice-1.jsonl entry 8:",
        |e| {
            drop(e.sessions[0].1.pop());
        },
    ),
    (
        "a log's row added",
        "sessions/alice-2.jsonl entry 4:",
        |e| {
            let first = leaf(&e.ledger[2]);
            e.sessions[1].1 = session_log("alice-2", first, 5).0;
        },
    ),
    ("a log missing", "sessions/alice-2.jsonl:", |e| {
        e.sessions.pop();
    }),
    ("logs swapped", "sessions/alice-1.jsonl entry 0:", |e| {
        let (one, two) = (e.sessions[0].1.clone(), e.sessions[1].1.clone());
        (e.sessions[0].1, e.sessions[1].1) = (two, one);
    }),
    ("a log that nobody began", "sessions/bob-1.jsonl:", |e| {
        e.sessions.push(("bob-1".into(), Vec::new()));
    }),
    ("another key", "key.pub:", |e| {
        let key = SecretKey::of_bytes(&[8; 32]);
        e.key = key.public().der();
        e.note = e.checkpoint().sign(&key).into_bytes();
    }),
];

#[test]
fn every_tampering_is_found_at_its_place_by_both() {
    let dir = tempfile::tempdir().unwrap();
    let key = python_key(&dir);
    let at = dir.path().join("export");
    for (name, place, tamper) in TAMPERINGS {
        let mut bad = export(20, 9);
        tamper(&mut bad);
        bad.write(&at);
        let fault = found(&at).unwrap_or_else(|| panic!("{name}: accepted"));
        assert!(fault.starts_with(place), "{name}: {fault}");
        assert!(!python_accepts(&at, &key), "{name}");
    }
}

#[test]
fn files_that_do_not_hold_what_they_say_are_found_by_both() {
    let dir = tempfile::tempdir().unwrap();
    let key = python_key(&dir);
    let at = dir.path().join("export");
    for file in files() {
        export(20, 9).write(&at);
        let path = at.join(&file);
        let mut bytes = fs::read(&path).unwrap();
        bytes.pop();
        fs::write(&path, &bytes).unwrap();
        let fault = found(&at).unwrap_or_else(|| panic!("{file} cut: accepted"));
        assert!(fault.starts_with(&file), "{fault}");
        assert!(!python_accepts(&at, &key), "{file} cut");
        if file == charter_file(CHARTER) {
            continue;
        }
        fs::remove_file(&path).unwrap();
        let fault = found(&at).unwrap_or_else(|| panic!("{file} removed: accepted"));
        assert!(fault.starts_with(&file), "{fault}");
        assert!(!python_accepts(&at, &key), "{file} removed");
    }
}

#[test]
fn a_rollback_is_found_by_a_checkpoint_held_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let new = export(30, 9);
    let held = new.checkpoint();
    let mut old = new.clone();
    // The same history, cut back to an older state and signed again by the key's holder.
    old.ledger.truncate(29);
    old.sign();
    old.sessions[0].1.truncate(3);
    old.write(dir.path());
    let key = secret().public();
    assert!(exported::verify(dir.path(), Some(&key), &[]).is_ok());
    let fault = exported::verify(dir.path(), Some(&key), &[held])
        .unwrap_err()
        .to_string();
    assert!(
        fault.starts_with("ledger.jsonl entry 29: is missing: a checkpoint"),
        "{fault}"
    );
    // Another history of the same length.
    let held = old.checkpoint();
    let mut forged = new.clone();
    forged.edit(12, "src/**", "srcX**");
    forged.relink(13);
    forged.sign();
    forged.write(dir.path());
    assert!(exported::verify(dir.path(), Some(&key), &[]).is_ok());
    let fault = exported::verify(dir.path(), Some(&key), &[held])
        .unwrap_err()
        .to_string();
    assert!(
        fault.contains("held elsewhere says of 29 entries"),
        "{fault}"
    );
    // The true continuation of what was held.
    new.write(dir.path());
    let held = [old.checkpoint(), new.checkpoint()];
    assert!(exported::verify(dir.path(), Some(&key), &held).is_ok());
}

//! Exports with a byte changed: every one is found by both programs.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use govfs::domain::export::{Bound, ExportAudit, Fault, end_session, session_file};

use super::{export, files, found, python_key, script};

/// Feeds what is left of a log, with line `at` replaced; returns the first fault.
fn rest_of_ledger(audit: &ExportAudit, lines: &[Vec<u8>], changed: &[u8]) -> Option<Fault> {
    let mut audit = audit.clone();
    for part in changed.split(|&b| b == b'\n') {
        if let Err(fault) = audit.ledger(part) {
            return Some(fault);
        }
    }
    let mut rest = lines.iter();
    rest.find_map(|line| audit.ledger(line).err())
        .or_else(|| audit.end().err())
}

#[test]
fn every_flipped_byte_of_a_200_entry_export_is_found_at_its_place() {
    let good = export(200, 40);
    let mut audit = ExportAudit::new(&good.note, &good.key, None).unwrap();
    for (at, line) in good.ledger.iter().enumerate() {
        for byte in 0..line.len() {
            for mask in [1 << (byte % 8), 0x20, 0xFF] {
                let mut changed = line.clone();
                changed[byte] ^= mask;
                let fault = rest_of_ledger(&audit, &good.ledger[at + 1..], &changed);
                let fault = fault.unwrap_or_else(|| panic!("entry {at} byte {byte}: accepted"));
                assert_eq!(
                    fault.place.entry,
                    Some(at as u64),
                    "byte {byte} ^{mask}: {fault}"
                );
            }
        }
        audit.ledger(line).unwrap();
    }
    let bound = audit.end().unwrap();
    for (name, lines) in &good.sessions {
        flip_session(bound, name, lines);
    }
}

fn flip_session(bound: &Bound, name: &str, lines: &[Vec<u8>]) {
    let mut audit = bound.audit(name, &session_file(name)).unwrap();
    for (at, line) in lines.iter().enumerate() {
        for byte in 0..line.len() {
            let mut changed = line.clone();
            changed[byte] ^= 1 << (byte % 8);
            let mut spoiled = audit.clone();
            let fault = changed
                .split(|&b| b == b'\n')
                .chain(lines[at + 1..].iter().map(Vec::as_slice))
                .find_map(|line| spoiled.line(line).err())
                .or_else(|| end_session(&spoiled).err());
            let fault = fault.unwrap_or_else(|| panic!("{name}:{at} byte {byte}: accepted"));
            assert_eq!(fault.place.entry, Some(at as u64), "byte {byte}: {fault}");
        }
        audit.line(line).unwrap();
    }
    end_session(&audit).unwrap();
}

/// Flips bytes of every file in place, asks the other program, and puts them back.
const FLIPPER: &str = r#"
import importlib.util, io, os, subprocess, sys
script, folder, key, stride = sys.argv[1], sys.argv[2], open(sys.argv[3], "rb").read(), int(sys.argv[4])
spec = importlib.util.spec_from_file_location("verifier", script)
verifier = importlib.util.module_from_spec(spec)
spec.loader.exec_module(verifier)
def accepted():
    try: verifier.verify(folder, key)
    except (Exception, SystemExit): return False
    return True
assert accepted()
count = 0
for where, _, names in sorted(os.walk(folder)):
    for name in sorted(names):
        path = os.path.join(where, name)
        good = open(path, "rb").read()
        step = stride if len(good) > 1000 else min(stride, 5)
        for at in range(count % step, len(good), step):
            with open(path, "r+b") as file:
                file.seek(at); file.write(bytes([good[at] ^ 1 << at % 8]))
            if accepted(): print("accepted:", path, at)
            count += 1
        open(path, "wb").write(good)
assert accepted()
print("flipped", count)
"#;

fn flip_in_python(entries: u64, writes: u64, stride: u64) {
    let dir = tempfile::tempdir().unwrap();
    let key = python_key(&dir);
    let at = dir.path().join("export");
    export(entries, writes).write(&at);
    let mut child = Command::new("python3")
        .args(["-", script().to_str().unwrap(), at.to_str().unwrap()])
        .args([key.to_str().unwrap(), &stride.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(FLIPPER.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(
        text.starts_with("flipped ") && text.lines().count() == 1,
        "{text}"
    );
}

#[test]
fn flipped_bytes_are_found_by_the_other_program_too() {
    flip_in_python(10, 5, 9);
    flip_in_python(200, 40, 61);
}

/// Every byte; takes minutes.
#[test]
#[ignore = "slow: every byte of 200 entries, each a whole verification in Python"]
fn every_flipped_byte_is_found_by_the_other_program_too() {
    flip_in_python(200, 40, 1);
}

#[test]
fn flipped_bytes_of_the_files_are_found_by_this_program() {
    let dir = tempfile::tempdir().unwrap();
    let good = export(10, 5);
    good.write(dir.path());
    for file in files() {
        let path = dir.path().join(&file);
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            fs::write(&path, &changed).unwrap();
            assert!(found(dir.path()).is_some(), "{file} byte {at}");
        }
        fs::write(&path, &bytes).unwrap();
    }
    assert_eq!(found(dir.path()), None);
}

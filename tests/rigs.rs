//! The scripts around the product can be read by what runs them, and say what they are for.

#![expect(clippy::unwrap_used, reason = "a test says what it found by failing")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")
}

/// Every script with the program that its first line names.
fn each() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for dir in [scripts(), scripts().join("rig")] {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let first = text.lines().next().unwrap_or_default().to_owned();
            let python = path.extension().is_some_and(|ending| ending == "py");
            if first.starts_with("#!") || python {
                let runner = if python || first.contains("python3") {
                    "python3"
                } else {
                    "bash"
                };
                found.push((path, runner.to_owned()));
            }
        }
    }
    assert!(found.len() > 8, "{found:?}");
    found
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn every_script_can_be_read_by_what_runs_it() {
    let dir = tempfile::tempdir().unwrap();
    for (path, runner) in each() {
        let mut check = Command::new(&runner);
        if runner == "python3" {
            let compile = "import py_compile, sys; py_compile.compile(sys.argv[1], sys.argv[2], doraise=True)";
            check
                .args(["-c", compile])
                .arg(&path)
                .arg(dir.path().join("out"));
        } else {
            check.arg("-n").arg(&path);
        }
        let output = check.output().unwrap();
        assert!(
            output.status.success(),
            "{}: {}",
            path.display(),
            said(&output)
        );
    }
}

#[test]
fn the_rigs_say_how_they_are_called() {
    for (name, word) in [
        ("faults", "--rounds"),
        ("conformance", "--quick"),
        ("bench", "--quick"),
        ("release", "--clean"),
        ("test", "FILTER"),
    ] {
        let output = Command::new(scripts().join(name))
            .arg("--help")
            .output()
            .unwrap();
        let text = said(&output);
        assert!(output.status.success(), "{name}: {text}");
        assert!(text.contains(word), "{name}: {text}");
    }
}

#[test]
fn a_wrong_word_is_a_usage_error() {
    for (name, words) in [
        ("faults", ["--only", "no-such-fault"]),
        ("release", ["--no-such-option", ""]),
    ] {
        let output = Command::new(scripts().join(name))
            .args(words)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}: {}", said(&output));
    }
}

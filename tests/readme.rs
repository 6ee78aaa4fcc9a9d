//! The README's tour is true: its commands run as they are written, and say what
//! they are said to say.

#![expect(clippy::unwrap_used, reason = "a test says what it found by failing")]

use std::fs;
use std::path::Path;
use std::process::Command;

/// Returns the text of the fenced block that opens with `fence`.
fn block<'a>(text: &'a str, fence: &str) -> &'a str {
    let begin = text.find(fence).unwrap() + fence.len();
    let end = text[begin..].find("\n```").unwrap();
    &text[begin..begin + end]
}

#[test]
fn the_tour_runs_as_it_is_written() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(top.join("README.md")).unwrap();
    let home = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_govfs")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let said = Command::new("bash")
        .args([
            "-euc",
            &format!("exec 2>&1\n{}", block(&readme, "```sh tour\n")),
        ])
        .env_clear()
        .env("PATH", path)
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{text}");
    for expected in [
        "Permission denied",
        "alice may not write src/b.py",
        "alice holds src/a.py",
        "govfs: session alice-1, 1 changed, 1 refused",
        "-a = 1",
        "+a = 2",
        "merged alice into main",
        "verified:",
    ] {
        assert!(
            text.contains(expected),
            "{expected:?} is missing in\n{text}"
        );
    }
    for line in block(&readme, "```text\ngovfs: session").lines().skip(1) {
        assert!(
            text.contains(line),
            "{line:?} is shown in the README, not by the program:\n{text}"
        );
    }
}

#[test]
fn every_file_that_the_readme_names_is_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(top.join("README.md")).unwrap();
    for file in [
        "scripts/demo",
        "scripts/test",
        "scripts/bench",
        "scripts/conformance",
        "scripts/faults",
        "scripts/verify-export.py",
        "src/domain/entry.rs",
        "governor.md",
    ] {
        assert!(readme.contains(file), "{file} is not named");
        assert!(top.join(file).exists(), "{file} is not there");
    }
}

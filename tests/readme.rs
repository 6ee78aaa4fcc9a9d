//! The README is true: its tour prints what it says, its files are there, and its
//! charter reference names every key that there is.

#![expect(clippy::unwrap_used, reason = "a test says what it found by failing")]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use govfs::domain::charter::Charter;
use govfs::domain::plan::Plan;

/// Stands between what one command printed and the next.
const MARK: &str = "---- next ----";

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(top().join("README.md")).unwrap()
}

/// Returns the texts of the fenced blocks that open with `fence`.
fn blocks<'a>(text: &'a str, fence: &str) -> Vec<&'a str> {
    let fence = format!("```{fence}\n");
    let pieces = text.split(fence.as_str()).skip(1);
    pieces
        .map(|piece| &piece[..piece.find("```").unwrap()])
        .collect()
}

/// Returns each command of the tour with what it is said to print.
fn tour(text: &str) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    for line in blocks(text, "console tour").concat().lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            out.push((command.to_owned(), String::new()));
        } else {
            let (_, said) = out.last_mut().unwrap();
            said.push_str(line);
            said.push('\n');
        }
    }
    out
}

/// Blots out what differs from run to run: hashes, temporary directories, dates and times.
fn plain(text: &str) -> String {
    let word = |word: &str| {
        let hash = word
            .split(|c: char| !c.is_ascii_hexdigit())
            .any(|run| run.len() >= 8);
        let time = word.len() >= 8
            && word.bytes().next().is_some_and(|b| b.is_ascii_digit())
            && word
                .bytes()
                .all(|b| b.is_ascii_digit() || b":-".contains(&b));
        match word {
            word if word.starts_with('/') => "PATH".to_owned(),
            word if word.starts_with("govfs-") || hash => "HASH".to_owned(),
            _ if time => "TIME".to_owned(),
            word => word.to_owned(),
        }
    };
    let line = |line: &str| {
        line.split_whitespace()
            .map(word)
            .collect::<Vec<_>>()
            .join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_tour_prints_what_it_says() {
    let tour = tour(&readme());
    assert!(tour.len() > 8, "{tour:?}");
    let mut script = String::from("exec 2>&1\n");
    for (command, _) in &tour {
        let _ = writeln!(script, "{command}\necho '{MARK}'");
    }
    let home = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_govfs")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let said = Command::new("bash")
        .args(["-c", &script])
        .env_clear()
        .env("PATH", path)
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    let parts: Vec<&str> = text.split(&format!("{MARK}\n")).collect();
    assert_eq!(parts.len(), tour.len() + 1, "{text}");
    for ((command, expected), found) in tour.iter().zip(parts) {
        assert_eq!(plain(found), plain(expected), "$ {command}\n{found}");
    }
}

#[test]
fn every_file_that_the_readme_names_is_there() {
    let text = readme();
    let mut named: Vec<PathBuf> = [
        "scripts/demo",
        "scripts/test",
        "scripts/bench",
        "scripts/conformance",
        "scripts/faults",
        "scripts/release",
        "scripts/verify-export.py",
    ]
    .map(PathBuf::from)
    .to_vec();
    for file in &named {
        assert!(
            text.contains(file.to_str().unwrap()),
            "{file:?} is not named"
        );
    }
    let links = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    named.extend(
        links
            .filter(|link| !link.contains("://"))
            .map(PathBuf::from),
    );
    assert!(named.len() > 10, "{named:?}");
    for file in named {
        assert!(
            top().join(&file).exists(),
            "{} is not there",
            file.display()
        );
    }
}

/// Returns the keys that a charter knows beneath `table`; they come with the fault of an unknown one.
fn known(table: &str) -> Vec<String> {
    let block = match table {
        "" => "xxxxxxxxxxxxxxxx = 1".to_owned(),
        table => format!("{table}\nxxxxxxxxxxxxxxxx = 1"),
    };
    let text = format!("# Rules\n\n```toml charter\n{block}\n```\n");
    let faults = Charter::parse(&text).unwrap_err();
    let list = faults
        .iter()
        .find_map(|fault| fault.message.split("known here: ").nth(1));
    let list = list.unwrap_or_else(|| panic!("{table}: {faults:?}"));
    list.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_charter_reference_names_every_key() {
    let text = readme();
    let mut missing = Vec::new();
    for table in known("") {
        let named = ["roles", "checks", "validators"].contains(&table.as_str());
        let (head, prefix) = if named {
            (format!("[{table}.one]"), format!("{table}.NAME"))
        } else {
            (format!("[{table}]"), table.clone())
        };
        for key in known(&head) {
            let full = format!("`{prefix}.{key}`");
            if !text.contains(&full) {
                missing.push(full);
            }
        }
    }
    assert!(missing.is_empty(), "not in the README: {missing:?}");
}

#[test]
fn the_plan_of_the_readme_is_one() {
    let text = readme();
    let plans = blocks(&text, "toml");
    assert_eq!(plans.len(), 1);
    Plan::parse("README.md", plans[0]).unwrap();
}

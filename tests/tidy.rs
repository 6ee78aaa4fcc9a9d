//! The house rules, kept by a test: the arrows between rooms, which room may
//! name which crate, no I/O or clock in `domain`, unsafe code in the sandbox
//! alone, short files that open with what they own.

#![expect(clippy::unwrap_used, reason = "a test says what it found by failing")]

use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Who may know whom (`src/lib.rs`, the map of the house).
const ARROWS: [(&str, &[&str]); 7] = [
    ("domain", &["domain"]),
    ("vfs", &["vfs", "domain"]),
    ("store", &["store", "domain"]),
    ("git", &["git", "domain"]),
    ("sandbox", &["sandbox", "domain"]),
    ("app", &["app", "vfs", "store", "git", "sandbox", "domain"]),
    ("cli", &["cli", "app", "domain"]),
];

/// Crates that only these rooms may name.
const CRATES: [(&str, &[&str]); 15] = [
    ("fuser", &["vfs"]),
    ("rusqlite", &["store"]),
    ("git2", &["git"]),
    ("landlock", &["sandbox"]),
    ("seccompiler", &["sandbox"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("sha2", &["domain"]),
    ("ed25519_dalek", &["domain"]),
    ("gix_ignore", &["domain"]),
    ("gix_attributes", &["domain"]),
    ("gix_glob", &["domain"]),
    ("indicatif", &["cli"]),
    ("getrandom", &["store", "app"]),
];

/// What a pure room never says.
const IMPURE: [&str; 12] = [
    "std::fs::",
    "std::net::",
    "std::process::",
    "std::env::",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "libc::",
    "nix::",
    "getrandom",
    "println!",
    "tempfile",
];

const LINES_MAX: usize = 500;

struct Source {
    path: PathBuf,
    room: String,
    text: String,
    is_test: bool,
}

impl Source {
    /// Returns the numbered lines of code, without comments, up to the unit tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = self.is_test;
        self.text
            .lines()
            .enumerate()
            .take_while(move |(_, line)| !tests && !line.starts_with("#[cfg(test)]"))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(at, line)| (at + 1, line))
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut dirs = vec![root.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(read(&root, &path));
            }
        }
    }
    assert!(
        found.len() > 20,
        "the walk found too little to mean anything"
    );
    found
}

fn read(top: &Path, path: &Path) -> Source {
    let inside = path.strip_prefix(top).unwrap().to_owned();
    let room = inside.components().next().unwrap().as_os_str();
    Source {
        room: room.to_string_lossy().into_owned(),
        text: fs::read_to_string(path).unwrap(),
        is_test: inside.file_stem().is_some_and(|stem| stem == "tests"),
        path: inside,
    }
}

/// Returns the identifiers that follow `prefix` in `line`.
fn after<'a>(line: &'a str, prefix: &str) -> Vec<&'a str> {
    let rests = line
        .match_indices(prefix)
        .map(|(at, _)| &line[at + prefix.len()..]);
    rests
        .map(|rest| {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            &rest[..end.unwrap_or(rest.len())]
        })
        .collect()
}

fn names_crate(line: &str, name: &str) -> bool {
    line.match_indices(&format!("{name}::")).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
    })
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn rooms_know_only_whom_the_map_says() {
    let mut faults = Vec::new();
    for source in sources() {
        let Some((_, allowed)) = ARROWS.iter().find(|(room, _)| *room == source.room) else {
            continue; // lib.rs and main.rs
        };
        for (at, line) in source.code() {
            for room in after(line, "crate::") {
                let place = format!("{}:{at}", source.path.display());
                if !ARROWS.iter().any(|(name, _)| *name == room) {
                    faults.push(format!(
                        "{place}: `crate::{room}` hides which room is meant"
                    ));
                } else if !allowed.contains(&room) {
                    faults.push(format!("{place}: {} must not know {room}", source.room));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn each_crate_is_named_in_its_room_alone() {
    let mut faults = Vec::new();
    for source in sources() {
        for (at, line) in source.code() {
            for (name, rooms) in CRATES {
                if names_crate(line, name) && !rooms.contains(&source.room.as_str()) {
                    let place = format!("{}:{at}", source.path.display());
                    faults.push(format!("{place}: {name} is for {rooms:?} alone"));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn the_domain_does_no_io_and_reads_no_clock() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| source.room == "domain") {
        for (at, line) in source.code() {
            // A file handle may pass through the gate's door; it is never opened here.
            let handle = line.trim() == "use std::fs::File;";
            for word in IMPURE.iter().filter(|word| line.contains(*word) && !handle) {
                faults.push(format!(
                    "{}:{at}: `{word}` in domain",
                    source.path.display()
                ));
            }
        }
    }
    report(&faults);
}

#[test]
fn unsafe_code_stands_in_the_sandbox_alone() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| source.room != "sandbox") {
        for (at, line) in source.code() {
            if line.contains("unsafe ") || line.contains("unsafe_code") {
                faults.push(format!(
                    "{}:{at}: unsafe outside sandbox",
                    source.path.display()
                ));
            }
        }
    }
    report(&faults);
}

#[test]
fn files_are_short_and_open_with_what_they_own() {
    let mut faults = Vec::new();
    for source in sources() {
        let code = source
            .text
            .lines()
            .take_while(|line| !line.starts_with("#[cfg(test)]"));
        let lines = code.count();
        if lines > LINES_MAX && !source.is_test {
            faults.push(format!("{}: {lines} lines", source.path.display()));
        }
        if !source.text.is_empty()
            && !source.text.starts_with("//!")
            && !source.is_test
            && source.path != Path::new("main.rs")
        {
            faults.push(format!("{}: no header", source.path.display()));
        }
    }
    report(&faults);
}

#[test]
fn the_rules_of_this_file_find_what_they_look_for() {
    assert!(names_crate("use git2::Oid;", "git2"));
    assert!(names_crate("let x: git2::Oid = 1;", "git2"));
    assert!(!names_crate("use my_git2::Oid;", "git2"));
    assert!(!names_crate("use crate::vfs::fuser::X;", "fuser"));
    assert_eq!(
        after("use crate::domain::path; crate::vfs::x", "crate::"),
        ["domain", "vfs"]
    );
}

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
const IMPURE: [&str; 28] = [
    "std::fs",
    "std::net",
    "std::os::unix::net",
    "std::process",
    "std::env",
    "std::thread",
    "std::time",
    "SystemTime",
    "Instant",
    "io::stdin",
    "io::stdout",
    "io::stderr",
    "File::open",
    "File::create",
    "File::options",
    "OpenOptions",
    "TcpStream",
    "UnixStream",
    "libc::",
    "nix::",
    "rustix::",
    "getrandom",
    "thread_rng",
    "print!",
    "println!",
    "dbg!",
    "tempfile",
    "tracing::",
];

const LINES_MAX: usize = 500;

struct Source {
    path: PathBuf,
    room: String,
    text: String,
    is_test: bool,
}

impl Source {
    /// How many lines it may be judged by: of tests all, of code those before its tests.
    fn length(&self) -> usize {
        if self.is_test {
            self.text.lines().count()
        } else {
            end_of_code(&self.text)
        }
    }

    /// Returns the numbered lines of code, without comments, up to the unit tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = if self.is_test {
            0
        } else {
            end_of_code(&self.text)
        };
        let lines = self.text.lines().enumerate().take(end);
        lines
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(at, line)| (at + 1, line))
    }

    /// How many steps up from this module lead out of its room.
    fn depth(&self) -> usize {
        let in_folder = self.path.file_name().is_some_and(|name| name == "mod.rs");
        self.path.components().count() - usize::from(in_folder)
    }
}

/// Returns how many lines stand before the module of unit tests. A test module in a
/// file of its own, or a single item that is for tests, ends nothing.
fn end_of_code(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let begins = |pair: &[&str]| {
        let module = pair[1].starts_with("mod ") || pair[1].starts_with("pub mod ");
        pair[0].starts_with("#[cfg(test)]") && module && pair[1].ends_with('{')
    };
    let end = lines.windows(2).position(begins);
    end.unwrap_or(lines.len())
}

fn sources() -> Vec<Source> {
    let found = read_all("src");
    assert!(
        found.len() > 20,
        "the walk found too little to mean anything"
    );
    found
}

/// Reads every Rust file beneath a folder of the repository.
fn read_all(folder: &str) -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Vec::new();
    let mut dirs = vec![top.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let mut source = read(&top, &path);
                source.is_test |= folder != "src";
                found.push(source);
            }
        }
    }
    found
}

fn read(top: &Path, path: &Path) -> Source {
    let inside = path.strip_prefix(top).unwrap().to_owned();
    let room = inside.components().next().unwrap().as_os_str();
    let mut names = inside.components().map(|part| Path::new(part.as_os_str()));
    Source {
        room: room.to_string_lossy().into_owned(),
        text: fs::read_to_string(path).unwrap(),
        is_test: names.any(|name| name.file_stem().is_some_and(|stem| stem == "tests")),
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

/// Says whether a line names an outside crate: by a path, by `use`, or by another name.
fn names_crate(line: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(name).any(|(at, _)| {
        let (before, rest) = (&line[..at], &line[at + name.len()..]);
        if rest.starts_with(word) || before.ends_with(word) {
            return false;
        }
        let from_root = before.strip_suffix("::");
        let outside = match from_root {
            Some(before) => !before.ends_with(|c| word(c) || c == '>' || c == '}'),
            None => true,
        };
        let taken =
            before.trim_end().ends_with("use") || before.trim_end().ends_with("extern crate");
        outside && (rest.starts_with("::") || taken || (from_root.is_some() && !rest.is_empty()))
    })
}

/// Returns the longest chain of `super::` in a line.
fn steps_up(line: &str) -> usize {
    let chains = line.match_indices("super::").map(|(at, _)| {
        let rest = line.as_bytes()[at..].chunks(7);
        rest.take_while(|chunk| *chunk == b"super::").count()
    });
    chains.max().unwrap_or(0)
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
            let place = format!("{}:{at}", source.path.display());
            if steps_up(line) >= source.depth() {
                faults.push(format!("{place}: `super` leads out of {}", source.room));
            }
            if line.trim_start().starts_with("use govfs") || line.contains(" govfs::") {
                faults.push(format!("{place}: `govfs::` hides which room is meant"));
            }
            for room in after(line, "crate::") {
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
            let place = format!("{}:{at}", source.path.display());
            for word in impure(line) {
                faults.push(format!("{place}: `{word}` in domain"));
            }
        }
    }
    report(&faults);
}

/// Returns what a pure line would not say.
fn impure(line: &str) -> Vec<&'static str> {
    // A file handle may pass through the gate's door; it is never opened here.
    if line.trim() == "use std::fs::File;" {
        return Vec::new();
    }
    let mut found: Vec<&str> = Vec::new();
    found.extend(IMPURE.iter().filter(|word| line.contains(**word)));
    // A group, or a whole crate under another name, would hide what is taken.
    let hides = ["std::{", "use std;", "use std as", "std::*"];
    found.extend(hides.iter().filter(|word| line.contains(**word)));
    found
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
    for folder in ["src", "tests", "benches"] {
        for source in read_all(folder) {
            let place = format!("{folder}/{}", source.path.display());
            if source.length() > LINES_MAX {
                faults.push(format!("{place}: {} lines", source.length()));
            }
            if !source.text.starts_with("//!") {
                faults.push(format!("{place}: no header"));
            }
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
    for line in [
        "use git2;",
        "use git2 as other;",
        "use ::git2::Oid;",
        "extern crate git2;",
        "fn f(x: ::git2::Oid)",
        "use {git2::Oid, x};",
    ] {
        assert!(names_crate(line, "git2"), "{line}");
    }
    assert!(!names_crate("let git2 = 1;", "git2"));
    for line in [
        "use std::fs;",
        "use std::{fs, io};",
        "let x = std::fs::read(p);",
        "use std::time::Duration;",
        "Instant::now()",
        "let f = File::open(p);",
        "use std as s;",
    ] {
        assert_ne!(impure(line), [""; 0], "{line}");
    }
    assert_eq!(impure("use std::fs::File;"), [""; 0]);
    assert_eq!(steps_up("use super::super::x; super::y"), 2);
    let text = "#[cfg(test)]\nmod tests;\nuse git2::Oid;\n#[cfg(test)]\nmod inner {\n}\n";
    assert_eq!(end_of_code(text), 3, "what follows a declaration is code");
    assert_eq!(
        after("use crate::domain::path; crate::vfs::x", "crate::"),
        ["domain", "vfs"]
    );
}

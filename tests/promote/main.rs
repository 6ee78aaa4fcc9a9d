//! Promotion against a plain model, against git itself, and against the clock.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is missing"
)]

mod checkout;
mod commit;
mod figures;
mod history;
mod model;
mod threeway;

use std::path::Path;
use std::process::Command;

use govfs::domain::base::Oid;
use govfs::domain::path::RepoPath;
use govfs::git::promote::{CommitSpec, Person, Promote, message_with_trailers};

fn path(text: &str) -> RepoPath {
    RepoPath::parse(text.as_bytes()).expect(text)
}

/// A command that sees nothing of the machine's configuration.
fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "op")
        .env("GIT_AUTHOR_EMAIL", "op@x")
        .env("GIT_COMMITTER_NAME", "op")
        .env("GIT_COMMITTER_EMAIL", "op@x")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

fn oid(text: &str) -> Oid {
    text.parse().unwrap()
}

struct Room {
    dir: tempfile::TempDir,
    promote: Promote,
}

fn room() -> Room {
    let dir = tempfile::tempdir().unwrap();
    git(dir.path(), &["init", "-q", "-b", "main"]);
    let promote = Promote::open(dir.path()).unwrap();
    Room { dir, promote }
}

fn spec(tree: Oid, parents: &[Oid]) -> CommitSpec {
    CommitSpec {
        tree,
        parents: parents.to_vec(),
        author: Person::agent("alice"),
        message: message_with_trailers("work", &[("Govfs-Agent", "alice".to_owned())]),
        time: (1_800_000_000, 0),
    }
}

/// Commits `files` (path, content) on main with git and returns the commit.
fn commit(dir: &Path, files: &[(&str, &str)]) -> Oid {
    for (name, content) in files {
        let file = dir.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }
    git(dir, &["add", "-A"]);
    git(dir, &["commit", "-q", "--allow-empty", "-m", "step"]);
    oid(&git(dir, &["rev-parse", "HEAD"]))
}

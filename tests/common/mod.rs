//! A repository with a home of its own, and the program run in it.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod bench;
pub(crate) mod mount;
pub(crate) mod needs;
pub(crate) mod sealed;
pub(crate) mod world;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// A throw-away repository and home directory; nothing of the caller's is seen.
pub(crate) struct House {
    dir: tempfile::TempDir,
}

/// What a run of the program gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl House {
    /// Makes the places, without a repository.
    pub(crate) fn empty() -> Self {
        let house = Self {
            dir: tempfile::tempdir().expect("a directory"),
        };
        std::fs::create_dir(house.home()).expect("a home");
        std::fs::create_dir(house.root()).expect("a repository");
        house
    }

    /// Makes an empty repository.
    pub(crate) fn bare_of_charter() -> Self {
        let house = Self::empty();
        house.git(&["init", "-q", "-b", "main"]);
        house
    }

    /// Makes a repository in which `govfs init` was run.
    pub(crate) fn new() -> Self {
        let house = Self::bare_of_charter();
        house.ok(&["init"]);
        house
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Prepares a command that sees only this house.
    pub(crate) fn hermetic(&self, program: &str, dir: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(dir)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home())
            .env("XDG_CONFIG_HOME", "")
            .env("XDG_STATE_HOME", "")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_NAME", "op")
            .env("GIT_AUTHOR_EMAIL", "op@example.org")
            .env("GIT_COMMITTER_NAME", "op")
            .env("GIT_COMMITTER_EMAIL", "op@example.org")
            .stdin(Stdio::null());
        command
    }

    /// Prepares a command under the names that the repository's configuration gives:
    /// an agent works under others.
    pub(crate) fn configured(&self, program: &str, dir: &Path) -> Command {
        let mut command = self.hermetic(program, dir);
        for name in ["GIT_AUTHOR", "GIT_COMMITTER"] {
            command.env_remove(format!("{name}_NAME"));
            command.env_remove(format!("{name}_EMAIL"));
        }
        command
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.hermetic(env!("CARGO_BIN_EXE_govfs"), &self.root());
        command.args(arguments);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        ran(self
            .command(arguments)
            .output()
            .expect("the program starts"))
    }

    /// Runs what must succeed and returns its stdout.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.status, 0, "{arguments:?}: {ran:?}");
        ran.stdout
    }

    /// Runs what must exit with `status`.
    pub(crate) fn fails(&self, status: i32, arguments: &[&str]) -> Ran {
        let ran = self.run(arguments);
        assert_eq!(ran.status, status, "{arguments:?}: {ran:?}");
        ran
    }

    /// Runs a shell script as an agent that claims `claim`; it must succeed.
    pub(crate) fn work(&self, agent: &str, claim: &str, script: &str) {
        self.ok(&["run", agent, "--claim", claim, "--", "sh", "-c", script]);
    }

    /// Runs with `--json` and reads the document.
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        serde_json::from_str(&self.run(&all).stdout).expect("a JSON document")
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts")
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let output = self
            .hermetic("git", &self.root())
            .args(arguments)
            .output()
            .expect("git starts");
        assert!(output.status.success(), "git {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Makes a repository whose first commit, before the ledger, holds these files.
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let house = Self::bare_of_charter();
        for (path, text) in files {
            house.commit(path, text);
        }
        house.ok(&["init"]);
        house
    }

    /// Brings a charter of this block into force.
    pub(crate) fn charter(&self, block: &str) {
        let text = format!("# Rules\n\n```toml charter\n{block}\n```\n");
        self.commit("governor.md", &text);
    }

    /// Writes a plan file and returns its path.
    pub(crate) fn plan(&self, id: &str, text: &str) -> String {
        let dir = self.path("plans");
        std::fs::create_dir_all(&dir).expect("a directory");
        let path = dir.join(format!("{id}.toml"));
        std::fs::write(&path, text).expect("a plan");
        path.to_string_lossy().into_owned()
    }

    /// Writes a plan of type fix.
    pub(crate) fn fix(&self, id: &str, rest: &str) -> String {
        self.plan(
            id,
            &format!("[plan]\nid = \"{id}\"\ntype = \"fix\"\n{rest}"),
        )
    }

    /// The queue holds together, the ledger verifies, and replay agrees.
    pub(crate) fn holds(&self) {
        self.ok(&["queue", "validate"]);
        self.ok(&["verify", "--deep"]);
        self.ok(&["replay"]);
    }

    /// Writes a file of the worktree and commits it.
    pub(crate) fn commit(&self, name: &str, text: &str) {
        let path = self.root().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("written");
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "a change"]);
    }
}

impl Ran {
    #[track_caller]
    pub(crate) fn is(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub(crate) fn ran(output: Output) -> Ran {
    Ran {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub(crate) fn finish(child: Child) -> Ran {
    ran(child.wait_with_output().expect("the program ends"))
}

/// Writes `text` to a child's standard input and closes it.
pub(crate) fn tell(child: &mut Child, text: &str) {
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(text.as_bytes()).expect("written");
}

/// Waits until a child says `up`; returns the rest of what it says.
pub(crate) fn until_up(child: &mut Child) -> ChildStdout {
    let mut out = child.stdout.take().expect("a pipe");
    let mut said = [0; 3];
    out.read_exact(&mut said).expect("it is up");
    assert_eq!(&said, b"up\n");
    out
}

/// A screen with times, durations and hashes blotted out.
pub(crate) fn screen(ran: &Ran) -> String {
    format!("{}{}exit {}\n", ran.stdout, ran.stderr, ran.status)
}

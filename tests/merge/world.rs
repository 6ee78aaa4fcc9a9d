//! One repository with its ledger, and agents in real mounts; nothing of it is left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::common::{House, Ran, ran};

pub(crate) const GOVFS: &str = env!("CARGO_BIN_EXE_govfs");

pub(crate) struct World {
    house: House,
    mounts: Vec<(String, PathBuf)>,
}

impl World {
    /// A repository with these files, committed, and a ledger.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let world = Self::bare_of_ledger(files);
        world.govfs(&["init"]).is(0);
        world
    }

    pub(crate) fn bare_of_ledger(files: &[(&str, &str)]) -> Self {
        let world = Self {
            house: House::bare_of_charter(),
            mounts: Vec::new(),
        };
        world.git(&["config", "user.name", "op"]);
        world.git(&["config", "user.email", "op@x"]);
        world.commit(files, "first");
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.house.path(name)
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.house.root()
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.repo().join(".git/govfs")
    }

    fn command(&self, program: &str) -> Command {
        self.house.configured(program, &self.repo())
    }

    pub(crate) fn govfs_command(&self, args: &[&str]) -> Command {
        let mut command = self.command(GOVFS);
        command.args(args);
        command
    }

    pub(crate) fn govfs(&self, args: &[&str]) -> Ran {
        ran(self.govfs_command(args).output().unwrap())
    }

    /// Runs govfs beneath a tracer.
    pub(crate) fn traced(&self, words: &[&str], args: &[&str]) -> Ran {
        let mut command = self.command("strace");
        command.args(words).arg(GOVFS).args(args);
        ran(command.output().unwrap())
    }

    /// Crashes at a named step.
    pub(crate) fn govfs_until(&self, step: &str, args: &[&str]) -> Ran {
        let mut command = self.govfs_command(args);
        ran(command.env("GOVFS_FAIL", step).output().unwrap())
    }

    #[track_caller]
    pub(crate) fn git(&self, args: &[&str]) -> String {
        self.git_in(&self.repo(), args)
    }

    #[track_caller]
    pub(crate) fn git_in(&self, dir: &Path, args: &[&str]) -> String {
        let mut command = self.command("git");
        let output = command.args(args).current_dir(dir).output().unwrap();
        let ended = ran(output).is(0);
        ended.stdout.trim_end().to_owned()
    }

    /// Writes files into the checkout and commits everything.
    pub(crate) fn commit(&self, files: &[(&str, &str)], message: &str) -> String {
        for (name, text) in files {
            let path = self.repo().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.tip("main")
    }

    pub(crate) fn tip(&self, branch: &str) -> String {
        self.git(&["rev-parse", branch])
    }

    /// Returns what a branch has at a path.
    pub(crate) fn at(&self, branch: &str, path: &str) -> String {
        let mut command = self.command("git");
        let output = command.args(["show", &format!("{branch}:{path}")]).output();
        String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
    }

    pub(crate) fn names(&self, branch: &str) -> Vec<String> {
        let text = self.git(&["ls-tree", "-r", "--name-only", branch]);
        text.lines().map(str::to_owned).collect()
    }

    /// Mounts the agent's session with these claims.
    #[track_caller]
    pub(crate) fn mount(&mut self, agent: &str, claims: &[&str]) -> PathBuf {
        let dir = self.path(&format!("mount-{agent}"));
        let mut args = vec!["mount", agent, dir.to_str().unwrap()];
        for claim in claims {
            args.extend(["--claim", claim]);
        }
        self.govfs(&args).is(0);
        self.mounts.push((agent.to_owned(), dir.clone()));
        dir
    }

    /// Runs a script in a mount.
    #[track_caller]
    pub(crate) fn sh(&self, dir: &Path, script: &str) -> Ran {
        let mut command = self.command("sh");
        let output = command.args(["-c", script]).current_dir(dir).output();
        ran(output.unwrap())
    }

    /// Changes things in a mount; all of it must succeed.
    #[track_caller]
    pub(crate) fn work(&self, dir: &Path, script: &str) {
        self.sh(dir, &format!("set -e; {script}")).is(0);
    }

    /// Returns the rules, with their paths, by which a merge was refused.
    #[track_caller]
    pub(crate) fn refused(&self, args: &[&str]) -> Vec<(String, String)> {
        let mut all = vec!["--json", "merge"];
        all.extend(args);
        let document = self.govfs(&all).is(3).json();
        assert_eq!(document["merged"], false);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let refusals = document["refusals"].as_array().unwrap().iter();
        refusals
            .map(|one| (text(&one["rule"]), text(&one["path"])))
            .collect()
    }

    /// Returns the ledger's lines of one operation.
    pub(crate) fn entries(&self, op: &str) -> Vec<Value> {
        let text = self.govfs(&["--json", "log", "--op", op]).is(0).stdout;
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }

    /// Everything must verify, projections and versions included, and decide the same again.
    #[track_caller]
    pub(crate) fn is_whole(&self) {
        self.govfs(&["verify", "--deep"]).is(0);
        self.govfs(&["replay"]).is(0);
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.git(&["status", "--porcelain"]).is_empty()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for (agent, dir) in &self.mounts {
            let _ = self.govfs(&["unmount", agent, "--force"]);
            let _ = nix::mount::umount2(dir, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

//! A repository, the real binary, and a mount of it: everything in one temporary place.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part; a test says what it found by failing"
)]

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use crate::common::{House, needs};

/// Runs a program as root does who has no capabilities: modes count for it.
const WITHOUT_CAPABILITIES: [&str; 3] = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];

pub struct World {
    house: House,
    agents: Vec<String>,
    descriptors: Option<u64>,
}

fn text(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

impl World {
    /// Makes an empty repository, on `main`.
    pub fn new() -> Self {
        let world = Self::without_repository();
        world.init();
        world
    }

    /// Makes the places; what is to be a repository is an empty directory.
    pub fn without_repository() -> Self {
        needs::device();
        Self {
            house: House::empty(),
            agents: Vec::new(),
            descriptors: None,
        }
    }

    /// Makes a repository of the directory.
    pub fn init(&self) {
        self.host("git init -q -b main && git config user.name Op && git config user.email op@example.org");
    }

    /// Makes a repository whose first commit is what `script` makes.
    pub fn of(script: &str) -> Self {
        let world = Self::new();
        world.host(script);
        world.host("git add -A && git commit -q --allow-empty -m first");
        world
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.house.path(name)
    }

    pub fn repo(&self) -> PathBuf {
        self.house.root()
    }

    pub fn mnt(&self) -> PathBuf {
        self.at("mnt")
    }

    fn command(&self, program: &str, dir: &Path) -> Command {
        let mut command = self.house.configured(program, dir);
        command
            .env("GIT_EDITOR", "true")
            .env("LC_ALL", "C.UTF-8")
            .env("MNT", self.mnt())
            .env("REPO", self.repo());
        command
    }

    /// Gives the binary few descriptors from here on.
    pub fn limit_descriptors(&mut self, most: u64) {
        self.descriptors = Some(most);
    }

    /// Runs the binary in the repository.
    pub fn govfs(&self, args: &[&str]) -> Output {
        self.govfs_in(&self.repo(), args)
    }

    pub fn govfs_in(&self, dir: &Path, args: &[&str]) -> Output {
        let binary = env!("CARGO_BIN_EXE_govfs");
        let mut command = match self.descriptors {
            Some(most) => {
                let mut command = self.command("bash", dir);
                command.args([
                    "-c",
                    &format!("ulimit -n {most}; exec \"$0\" \"$@\""),
                    binary,
                ]);
                command
            }
            None => self.command(binary, dir),
        };
        command.args(args).output().unwrap()
    }

    /// Runs the binary, which must succeed; returns what it said.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.govfs(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output));
        text(&output)
    }

    /// Makes the ledger, and mounts `agent`'s session with these claims at `mnt()`.
    pub fn mount(&mut self, agent: &str, claims: &[&str]) {
        self.ok(&["init"]);
        self.mount_again(agent, claims);
    }

    pub fn mount_again(&mut self, agent: &str, claims: &[&str]) {
        let place = self.mnt();
        let mut args = vec!["mount", agent, place.to_str().unwrap()];
        for claim in claims {
            args.extend(["--claim", claim]);
        }
        if !self.agents.iter().any(|known| known == agent) {
            self.agents.push(agent.to_owned());
        }
        self.ok(&args);
    }

    /// Runs a script as the operator, in the repository; it must succeed.
    pub fn host(&self, script: &str) -> String {
        self.host_in(&self.repo(), script)
    }

    pub fn host_in(&self, dir: &Path, script: &str) -> String {
        let output = self
            .command("bash", dir)
            .args(["-ec", script])
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a script as the agent does, in the mount.
    pub fn run(&self, script: &str) -> Output {
        let mut command = if nix::unistd::geteuid().is_root() {
            let mut command = self.command(WITHOUT_CAPABILITIES[0], &self.mnt());
            command.args(&WITHOUT_CAPABILITIES[1..]).arg("bash");
            command
        } else {
            self.command("bash", &self.mnt())
        };
        command.args(["-ec", script]).output().unwrap()
    }

    /// Runs a script in the mount that must succeed; returns what it printed.
    pub fn sh(&self, script: &str) -> String {
        let output = self.run(script);
        assert!(output.status.success(), "{script}: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a script in the mount that must fail; returns everything it said.
    pub fn refused(&self, script: &str) -> String {
        let output = self.run(script);
        let said = text(&output);
        assert!(!output.status.success(), "{script} was not refused: {said}");
        said
    }

    /// Sends a signal to the server of the mount.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let server = nix::unistd::Pid::from_raw(self.server());
        nix::sys::signal::kill(server, signal).unwrap();
    }

    /// The server's process of an agent's session.
    pub fn server(&self) -> i32 {
        let log = self.ok(&["log", "--op", "mount", "--json"]);
        let from = log.rfind("\"pid\":").unwrap() + 6;
        let digits = log[from..].chars().take_while(char::is_ascii_digit);
        digits.collect::<String>().parse().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for agent in &self.agents {
            if self.repo().exists() {
                let _ = self.govfs(&["unmount", agent, "--force"]); // it may be unmounted already
            }
        }
        let left = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let ours = self.house.path("").to_str().unwrap().to_owned();
        for line in left.lines().filter(|line| line.contains(&ours)) {
            let place = line.split(' ').nth(1).unwrap();
            let _ = Command::new("umount").args(["-l", place]).output();
        }
    }
}

//! A repository and who works in it: root, an ordinary user, or root without `CAP_SYS_ADMIN`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{House, Ran, ran};

/// An ordinary user's number; nobody else has it.
const USER: u32 = 65_533;
/// Only ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A repository in a house of its own, and who works there.
pub(crate) struct World {
    pub(crate) house: House,
    pub(crate) user: Option<u32>,
    /// Root whose bounding set lacks `CAP_SYS_ADMIN`.
    lesser: bool,
}

impl World {
    pub(crate) fn new(user: Option<u32>) -> Self {
        let house = House::bare_of_charter();
        let root = house.root();
        for (name, text) in [
            ("src/a.txt", "a\n"),
            ("src/b.txt", "b\n"),
            ("docs/guide.md", "guide\n"),
            (".gitignore", "target/\n"),
        ] {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, text).expect("written");
        }
        fs::create_dir_all(house.home().join(".ssh")).expect("a directory");
        fs::write(house.home().join(".ssh/id"), "secret\n").expect("written");
        fs::write(house.home().join(".profile"), "profile\n").expect("written");
        house.git(&["add", "-A"]);
        house.git(&["commit", "-q", "-m", "first"]);
        let world = Self {
            house,
            user,
            lesser: false,
        };
        if user.is_some() {
            fs::set_permissions(world.house.path(""), fs::Permissions::from_mode(0o755))
                .expect("open to the user");
            give(&world.house.path(""), user);
        }
        world.ok(&["init"]);
        world
    }

    /// Prepares a program as the one who works here.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = match self.user {
            None if self.lesser => {
                let mut command = self.house.hermetic("setpriv", &self.house.root());
                command
                    .args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"])
                    .arg(program);
                command
            }
            None => self.house.hermetic(program, &self.house.root()),
            Some(user) => {
                let mut command = self.house.hermetic("unshare", &self.house.root());
                let node = self.house.path("fuse");
                let script = format!(
                    "mount --make-rprivate / && {{ test -e {node} || mknod -m 666 {node} c 10 229; }} && mount --bind {node} /dev/fuse && exec setpriv --reuid={user} --regid={user} --clear-groups \"$0\" \"$@\"",
                    node = node.display()
                );
                command.args(["-m", "sh", "-c", &script, program]);
                command
            }
        };
        command.args(arguments);
        command
    }

    pub(crate) fn govfs(&self, arguments: &[&str]) -> Command {
        self.command(env!("CARGO_BIN_EXE_govfs"), arguments)
    }

    /// Starts the program with a pipe for each of its streams.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.govfs(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().expect("the program starts")
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.govfs(arguments).output().expect("the program starts"))
    }

    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.status, 0, "{arguments:?}: {ran:?}");
        ran.stdout
    }

    /// Runs a shell script as alice, with claims.
    pub(crate) fn sh(&self, claims: &[&str], script: &str) -> Ran {
        self.run(&launch(claims, script))
    }

    /// As [`World::sh`], and goes on beside the test.
    pub(crate) fn spawn_sh(&self, claims: &[&str], script: &str) -> Child {
        self.spawn(&launch(claims, script))
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.house.root()
    }

    pub(crate) fn log(&self) -> Vec<Value> {
        let text = self.ok(&["--json", "log"]);
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("an entry"))
            .collect()
    }

    /// No server of this world lives, and no mount of it is left.
    pub(crate) fn nothing_is_left(&self) {
        let root = self.root();
        let name = root.to_string_lossy();
        let begin = Instant::now();
        loop {
            let servers = processes(&name);
            if servers.is_empty() {
                break;
            }
            assert!(begin.elapsed() < PATIENCE, "left behind: {servers:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
        assert!(!mounts.contains(&*name), "a mount is left");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A failed test's server goes with its sessions; nothing here may outlive the test.
        for pid in processes(&self.root().to_string_lossy()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

pub(crate) fn give(dir: &Path, user: Option<u32>) {
    let Some(user) = user else { return };
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        if entry.file_type().expect("a type").is_dir() {
            give(&entry.path(), Some(user));
        }
        std::os::unix::fs::lchown(entry.path(), Some(user), Some(user)).expect("given");
    }
    chown(dir, Some(user), Some(user)).expect("given");
}

/// Returns the processes that speak of `name` in their command line.
pub(crate) fn processes(name: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("processes").flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(name) {
            found.push(pid);
        }
    }
    found
}

/// Tries a case as root and as an ordinary user; without root, as whoever runs the tests.
pub(crate) fn each(case: impl Fn(&World)) {
    if nix::unistd::geteuid().is_root() {
        for user in [None, Some(USER)] {
            whole(&World::new(user), &case);
        }
    } else {
        super::needs::device();
        whole(&World::new(None), &case);
    }
}

/// Tries a case as everybody of [`each`], and as root without `CAP_SYS_ADMIN`.
pub(crate) fn everybody(case: impl Fn(&World)) {
    each(&case);
    if nix::unistd::geteuid().is_root() {
        let mut world = World::new(None);
        world.lesser = true;
        whole(&world, &case);
    }
}

fn whole(world: &World, case: &impl Fn(&World)) {
    case(world);
    world.nothing_is_left();
}

/// The words that launch a script as alice.
fn launch<'a>(claims: &[&'a str], script: &'a str) -> Vec<&'a str> {
    let mut arguments = vec!["run", "alice"];
    for claim in claims {
        arguments.extend(["--claim", claim]);
    }
    arguments.extend(["--", "sh", "-c", script]);
    arguments
}

//! Fixtures: a repository with something to protect, and runs of the helper as each kind of caller.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::chown;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use govfs::sandbox::Layer;
use tempfile::TempDir;

use crate::attack::REFUSED;
use crate::helper::Job;

/// Who starts the launcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    Root,
    /// Root whose bounding set lacks `CAP_SYS_ADMIN`.
    LesserRoot,
    User,
}

/// An id without an account: nothing has to be added to, or removed from, the machine.
const USER: u32 = 48_213;

impl Caller {
    /// Everybody that this process can become.
    pub(crate) fn all() -> Vec<Self> {
        if nix::unistd::geteuid().is_root() {
            vec![Self::Root, Self::LesserRoot, Self::User]
        } else {
            vec![Self::User]
        }
    }

    fn owner(self) -> u32 {
        match self {
            Self::User if nix::unistd::geteuid().is_root() => USER,
            _ => nix::unistd::geteuid().as_raw(),
        }
    }
}

/// A repository, a home, a store, and a directory of each other kind, all owned by the caller.
pub(crate) struct Bench {
    pub(crate) caller: Caller,
    room: TempDir,
}

impl Bench {
    pub(crate) fn new(caller: Caller) -> Self {
        // Not where each session has a directory of its own.
        let base = if nix::unistd::geteuid().is_root() {
            PathBuf::from("/srv")
        } else {
            std::env::home_dir().expect("a home")
        };
        Self::below(caller, &base)
    }

    pub(crate) fn below(caller: Caller, base: &Path) -> Self {
        let room = tempfile::Builder::new()
            .prefix("govfs-seal-")
            .tempdir_in(base)
            .expect("a room");
        fs::set_permissions(room.path(), fs::Permissions::from_mode(0o755)).expect("an open room");
        let bench = Self { caller, room };
        for directory in [
            "repo",
            "home",
            "home/writable",
            "home/.ssh",
            "home/.config/govfs",
            "store",
            "copies",
            "bin",
            "elsewhere",
        ] {
            fs::create_dir_all(bench.path(directory)).expect("a directory");
        }
        for file in [
            "repo/real.txt",
            "home/plain",
            "home/writable/file",
            "home/.ssh/id",
            "home/.config/govfs/key",
            "store/ledger.db",
            "elsewhere/file",
        ] {
            fs::write(bench.path(file), "secret\n").expect("a file");
        }
        fs::set_permissions(bench.path("home"), fs::Permissions::from_mode(0o700))
            .expect("a closed home");
        fs::copy(crate::helper::own_path(), bench.path("bin/helper")).expect("a program");
        bench.own(bench.room.path());
        bench
    }

    pub(crate) fn own(&self, path: &Path) {
        chown(path, Some(self.caller.owner()), Some(self.caller.owner())).expect("an owner");
        if path.is_dir() {
            for entry in fs::read_dir(path).expect("a directory") {
                self.own(&entry.expect("an entry").path());
            }
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// A job in this room, running `argv`.
    pub(crate) fn job(&self, argv: &[&str]) -> Job {
        Job {
            repo: self.path("repo"),
            home: Some(self.path("home")),
            argv: argv.iter().map(ToString::to_string).collect(),
            env: [
                ("PATH", "/usr/local/bin:/usr/bin:/bin"),
                ("HOME", &self.text("home")),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
            writable: vec![self.path("home/writable")],
            hidden: ["home/.ssh", "home/.config/govfs", "store"]
                .map(|name| self.path(name))
                .into(),
            copy_room: Some(self.path("copies")),
            repeat: 1,
            ..Job::default()
        }
    }

    pub(crate) fn shell(&self, script: &str) -> Job {
        self.job(&["sh", "-c", script])
    }

    /// The command that runs a job as this bench's caller.
    pub(crate) fn command(&self, job: &Job) -> Command {
        let job = serde_json::to_string(job).expect("a job");
        let helper = self.path("bin/helper");
        let mut command = match self.caller {
            _ if !nix::unistd::geteuid().is_root() => Command::new(helper),
            Caller::Root => Command::new(helper),
            Caller::LesserRoot => {
                let mut command = Command::new("setpriv");
                command
                    .args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"])
                    .arg(helper);
                command
            }
            Caller::User => {
                let script = "mknod -m 0666 \"$1\" c 10 229 && mount --make-rprivate / && mount --bind \"$1\" /dev/fuse \
                    && rm \"$1\" && exec setpriv --reuid \"$2\" --regid \"$2\" --clear-groups \"$3\" --helper \"$4\"";
                let mut command = Command::new("unshare");
                command.args(["-m", "sh", "-c", script, "sh"]);
                command
                    .arg(self.path("bin/fuse"))
                    .arg(USER.to_string())
                    .arg(helper)
                    .arg(&job);
                return command;
            }
        };
        command.arg("--helper").arg(job);
        command
    }

    pub(crate) fn run(&self, job: &Job) -> Output {
        self.command(job)
            .stdin(Stdio::null())
            .output()
            .expect("a run")
    }

    /// Runs a shell script inside and returns its output; its status must be 0.
    pub(crate) fn answer(&self, job: &Job) -> String {
        let output = self.run(job);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{:?} {:?}: {said}{complained}",
            self.caller,
            job.argv
        );
        said
    }

    /// Runs one attack inside. Returns whether it worked.
    pub(crate) fn attack(&self, attack: &[&str], change: impl FnOnce(&mut Job)) -> bool {
        let mut argv = vec!["govfs", "--attack"];
        argv.extend(attack);
        let mut job = self.job(&argv);
        change(&mut job);
        let output = self.run(&job);
        match output.status.code() {
            Some(0) => true,
            Some(code) if code == i32::from(REFUSED) => false,
            code => panic!(
                "{:?} {attack:?}: {code:?}: {}",
                self.caller,
                String::from_utf8_lossy(&output.stderr)
            ),
        }
    }
}

/// A change of a job that leaves layers out.
pub(crate) fn without(layers: &[Layer]) -> impl FnOnce(&mut Job) + use<> {
    let layers = layers.to_vec();
    move |job| job.without = layers
}

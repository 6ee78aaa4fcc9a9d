//! Machines that lack a layer: each is named and refused, and less is run only where somebody allows it by name.
//!
//! A small program (`seal/poor.py`) makes the machine poorer for one command: no user namespaces, no Landlock, no
//! filters, no FUSE. It needs root, and what it runs is an ordinary user.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown};
use std::path::Path;
use std::process::Command;

use common::{House, Ran, ran};
use serde_json::Value;

/// A user that every Debian has, with a name, as fusermount3 asks for one.
const USER: u32 = 1;

/// A repository of that user.
struct World {
    house: House,
}

impl World {
    /// Returns nothing where no machine can be made poorer.
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let house = House::bare_of_charter();
        house.commit("src/a.txt", "a\n");
        house.commit("src/b.txt", "b\n");
        fs::create_dir_all(house.home().join(".cache/tool")).expect("a directory");
        let top = house.path("");
        fs::set_permissions(&top, fs::Permissions::from_mode(0o755)).expect("open");
        let node = Command::new("mknod")
            .arg(house.path("fuse"))
            .args(["-m", "666", "c", "10", "229"])
            .status();
        assert!(node.expect("mknod starts").success());
        give(&top);
        let world = Self { house };
        assert_eq!(world.on("", &["init"]).status, 0);
        Some(world)
    }

    /// Runs govfs on a machine that lacks something.
    fn on(&self, lacks: &str, arguments: &[&str]) -> Ran {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seal/poor.py");
        let mut command = self.house.hermetic("python3", &self.house.root());
        command.arg(program).args(lacks.split_whitespace());
        command.arg(USER.to_string());
        command.arg(env!("CARGO_BIN_EXE_govfs")).args(arguments);
        command.env("FUSE_NODE", self.house.path("fuse"));
        ran(command.output().expect("python3 starts"))
    }

    /// Runs a script as alice, who has claimed one file, where less than tier A may do.
    fn sh(&self, lacks: &str, tier: &str, script: &str) -> Ran {
        let mut arguments = vec!["run", "alice", "--claim", "src/a.txt"];
        if !tier.is_empty() {
            arguments.extend(["--allow-tier", tier]);
        }
        arguments.extend(["--", "sh", "-c", script]);
        self.on(lacks, &arguments)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        let ran = self.on("", &all);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("no document: {ran:?}"))
    }

    fn entries(&self, op: &str) -> Vec<Value> {
        let text = self.on("", &["--json", "log"]).stdout;
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("an entry"));
        lines.filter(|entry| entry["op"] == op).collect()
    }

    /// Nothing of the operator's own was written.
    fn is_untouched(&self) {
        for (name, text) in [("src/a.txt", "a\n"), ("src/b.txt", "b\n")] {
            let found = fs::read_to_string(self.house.root().join(name)).expect("readable");
            assert_eq!(found, text, "{name} in the repository itself");
        }
        let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
        assert!(!mounts.contains(&*self.house.path("").to_string_lossy()));
    }
}

fn give(dir: &Path) {
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        if entry.file_type().expect("a type").is_dir() {
            give(&entry.path());
        }
        lchown(entry.path(), Some(USER), Some(USER)).expect("given");
    }
    chown(dir, Some(USER), Some(USER)).expect("given");
}

#[test]
fn doctor_leaves_nothing_behind() {
    let house = House::bare_of_charter();
    let place = house.path("temporary");
    fs::create_dir(&place).expect("a directory");
    let mut doctor = house.hermetic(env!("CARGO_BIN_EXE_govfs"), &house.root());
    doctor.arg("doctor").env("TMPDIR", &place);
    let tried = ran(doctor.output().expect("it starts"));
    assert_eq!(tried.status, 0, "{tried:?}");
    assert_eq!(fs::read_dir(&place).expect("a directory").count(), 0);
}

#[test]
fn a_charter_can_forbid_lower_tiers() {
    let Some(world) = World::new() else { return };
    let file = world.house.root().join("governor.md");
    let text = fs::read_to_string(&file).expect("the charter");
    let stricter = text.replace("#tier = \"A\"", "tier = \"B\"");
    assert_ne!(text, stricter);
    fs::write(&file, &stricter).expect("written");
    let mut git = world.house.hermetic("git", &world.house.root());
    git.args([
        "-c",
        "safe.directory=*",
        "commit",
        "-qam",
        "A stricter charter",
    ]);
    assert!(git.status().expect("git starts").success());
    give(&world.house.root());
    let refused = world.sh("no-landlock", "C", "echo ran");
    let wanted = "the charter wants tier B at least, not C";
    assert_eq!(
        (refused.status, refused.stdout.as_str()),
        (3, ""),
        "{refused:?}"
    );
    assert!(refused.stderr.contains(wanted), "{refused:?}");
    let allowed = world.sh("no-userns", "B", "echo ran");
    assert_eq!(
        (allowed.status, allowed.stdout.as_str()),
        (0, "ran\n"),
        "{allowed:?}"
    );
}

/// What a machine lacks, the layer's name, and the best tier that still holds there.
const POORER: [(&str, &str, &str); 3] = [
    ("no-userns", "user namespace", "B"),
    ("no-landlock", "landlock", "C"),
    ("no-seccomp", "seccomp", "C"),
];

#[test]
fn a_missing_layer_is_named_and_refused() {
    let Some(world) = World::new() else { return };
    let whole = world.sh("", "", "echo mine > src/a.txt; cat src/a.txt");
    assert_eq!(
        (whole.status, whole.stdout.as_str()),
        (0, "mine\n"),
        "{whole:?}"
    );
    for (lacks, layer, tier) in POORER {
        let recorded = world.entries("launch").len();
        let refused = world.sh(lacks, "", "echo ran");
        assert_eq!(
            (refused.status, refused.stdout.as_str()),
            (6, ""),
            "{lacks}: {refused:?}"
        );
        // What could be known before is no launch.
        assert!(layer == "seccomp" || world.entries("launch").len() == recorded);
        assert!(
            refused.stderr.contains(&format!("error: {layer}"))
                && refused.stderr.contains("hint: "),
            "{refused:?}"
        );
        // More than the machine has is not given for less than it was asked for.
        if tier == "C" {
            let refused = world.sh(lacks, "B", "echo ran");
            assert_eq!(
                (refused.status, refused.stdout.as_str()),
                (6, ""),
                "{lacks}: {refused:?}"
            );
            assert!(
                refused.stderr.contains("only tier C holds") && refused.stderr.contains(layer),
                "{refused:?}"
            );
        }
        let doctor = world.on(lacks, &["--json", "doctor"]);
        assert_eq!(doctor.status, 6, "{doctor:?}");
        let found: Value = serde_json::from_str(&doctor.stdout).expect("a document");
        assert_eq!(found["tier"], tier, "{found:#}");
        let layers = found["layers"].as_array().expect("layers");
        let missing = layers.iter().find(|one| one["name"] == layer);
        let missing = missing.expect("the layer");
        assert_eq!(missing["ok"], false, "{missing:#}");
        for key in ["evidence", "fix"] {
            assert!(
                missing[key].as_str().is_some_and(|text| text.len() > 10),
                "{missing:#}"
            );
        }
    }
    let refused = world.sh("no-fuse", "", "echo ran");
    assert_eq!(refused.status, 6, "{refused:?}");
    assert!(refused.stderr.contains("fuse mount"), "{refused:?}");
    let both = world.sh("no-userns no-fuse", "C", "echo ran");
    assert_eq!((both.status, both.stdout.as_str()), (6, ""), "{both:?}");
    world.is_untouched();
}

#[test]
fn a_lower_tier_works_in_the_mount_and_is_named_everywhere() {
    for (lacks, _, tier) in POORER {
        let Some(world) = World::new() else { return };
        let git = world.house.root().join(".git");
        let script = format!(
            "pwd; echo mine > src/a.txt && cat src/a.txt; echo evil > src/b.txt || echo refused; govfs why src/b.txt | head -1; echo x > {0}/src/b.txt && echo repository; echo x >> {1}/config && echo git; echo $PWD",
            world.house.root().display(),
            git.display()
        );
        let ran = world.sh(lacks, tier, &script);
        assert_eq!(ran.status, 0, "{lacks}: {ran:?}");
        let lines: Vec<&str> = ran.stdout.lines().collect();
        let place = lines[0];
        assert_ne!(Path::new(place), world.house.root(), "{ran:?}");
        assert_eq!(lines[1..3], ["mine", "refused"], "{ran:?}");
        assert!(lines[3].contains("src/b.txt"), "{ran:?}");
        // Tier B refuses the repository itself; tier C promises nothing outside of the mount.
        let around: &[&str] = if tier == "B" {
            &[]
        } else {
            &["repository", "git"]
        };
        assert_eq!(lines[4..lines.len() - 1], *around, "{ran:?}");
        assert_eq!(lines.last(), Some(&place), "PWD: {ran:?}");
        if tier == "B" {
            world.is_untouched();
        } else {
            // What a tier C program did around the mount is undone here, so that the merge can follow.
            fs::write(world.house.root().join("src/b.txt"), "b\n").expect("written");
            let config = fs::read_to_string(git.join("config")).expect("readable");
            fs::write(git.join("config"), config.trim_end_matches("x\n")).expect("written");
        }
        let launch = world.entries("launch").pop().expect("a launch");
        assert_eq!(launch["tier"], tier);
        let temporary = "echo x > $TMPDIR/file && echo $TMPDIR; mktemp > /dev/null && echo made";
        if tier == "B" {
            let ran = world.sh(lacks, tier, temporary);
            let (place, made) = ran.stdout.split_once('\n').expect("two lines");
            assert_eq!(made, "made\n", "{ran:?}");
            assert!(!Path::new(place).exists(), "it goes with the run: {ran:?}");
            let launch = world.entries("launch").pop().expect("a launch");
            assert!(
                launch["widenings"].to_string().contains(place),
                "{launch:#}"
            );
        }
        let mount = world.entries("mount").pop().expect("a mount");
        assert_eq!(mount["tier"], tier);
        // A whole seal afterwards does not make the session a better one.
        assert_eq!(world.sh("", "", "cat src/a.txt").stdout, "mine\n");
        let status = world.json(&["status"]);
        assert_eq!(status["sessions"][0]["tier"], tier, "{status:#}");
        let screen = world.on("", &["status"]).stdout;
        assert!(screen.contains(&format!("tier {tier}")), "{screen}");
        let merged = world.on("", &["merge", "alice"]);
        assert_eq!(merged.status, 0, "{merged:?}");
        assert!(
            merged.stdout.contains(&format!("tier {tier}"))
                || merged.stderr.contains(&format!("tier {tier}")),
            "{merged:?}"
        );
        let merge = world.entries("merge").pop().expect("a merge");
        assert_eq!(merge["tier"], tier);
        assert_eq!(world.on("", &["verify", "--deep"]).status, 0);
    }
}

#[test]
fn work_in_a_mount_of_the_host_stays_tier_c() {
    let Some(world) = World::new() else { return };
    let place = world.house.path("home/mnt").display().to_string();
    let mounted = world.on("", &["mount", "alice", &place, "--claim", "src/a.txt"]);
    assert_eq!(mounted.status, 0, "{mounted:?}");
    world.on("", &["unmount", "alice", "--force"]);
    let ran = world.sh("", "", "cat src/a.txt");
    assert_eq!(ran.stdout, "a\n", "{ran:?}");
    let status = world.json(&["status"]);
    assert_eq!(status["sessions"][0]["tier"], "C", "{status:#}");
}

/// A program that never ran did nothing in a lower tier: the session is as good as before.
#[test]
fn a_launch_that_fails_lowers_no_tier() {
    let Some(world) = World::new() else { return };
    for (lacks, _, tier) in POORER {
        let arguments = [
            "run",
            "alice",
            "--allow-tier",
            tier,
            "--",
            "no-such-program",
        ];
        let ran = world.on(lacks, &arguments);
        assert_eq!(ran.status, 125, "{lacks}: {ran:?}");
        assert!(ran.stderr.contains("cannot run no-such-program"), "{ran:?}");
    }
    assert!(world.entries("launch").is_empty());
}

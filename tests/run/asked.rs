//! What a run opens and hides: by its flags, by the charter, and of the agent's own state.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::common::sealed::{World, each, everybody, give};
use crate::common::{needs, ran};

#[test]
fn what_cannot_be_asked_of_a_run_is_refused_by_name() {
    each(|world| {
        let missing = world.house.path("missing").display().to_string();
        let home = world.house.home().display().to_string();
        for (flags, status, says) in [
            (["--rw", &home], 125, "git's or govfs's own"),
            (["--rw", "/proc"], 125, "is the kernel's own"),
            (["--hide", "src"], 2, "it lies in the repository"),
            (["--env", "=1"], 2, "a variable has a name"),
            (["--rw", &missing], 125, "hint: make it first"),
            (["--claim", "a/../b"], 2, "a/../b"),
            (["--base", "no-such"], 5, "no-such"),
        ] {
            let ran = world.run(&["run", "alice", flags[0], flags[1], "--", "true"]);
            assert_eq!(ran.status, status, "{ran:?}");
            assert!(ran.stderr.contains(says), "{ran:?}");
        }
        for (name, says) in [
            ("no-such", "hint: no directory of PATH has it"),
            ("./no-such", "hint: inside there is no such file"),
            ("./src", "hint: it has to be a file"),
            ("", "cannot run ''"),
        ] {
            let ran = world.run(&["run", "alice", "--", name]);
            assert_eq!(ran.status, 125, "{ran:?}");
            assert!(ran.stderr.contains(says), "{ran:?}");
        }
    });
}

#[test]
fn directories_are_opened_and_hidden_by_flags_and_the_entry_says_so() {
    each(|world| {
        let out = world.house.path("out");
        let gone = world.house.path("gone");
        for dir in [&out, &gone] {
            fs::create_dir(dir).expect("a directory");
            fs::write(dir.join("here"), "").expect("a file");
            give(dir, world.user);
        }
        let (out, gone) = (out.display().to_string(), gone.display().to_string());
        let script = format!(
            "echo new > {out}/new && ls {out}; ls {gone}; echo $TOKEN-$OTHER-$GOVFS-$GOVFS_AGENT"
        );
        let mut command = world.govfs(&[
            "run", "alice", "--rw", &out, "--hide", &gone, "--env", "TOKEN=t", "--no-net", "--",
            "sh", "-c", &script,
        ]);
        command.env("OTHER", "leaks");
        let ran = ran(command.output().expect("the program starts"));
        assert_eq!(ran.stdout, "here\nnew\nt--1-alice\n", "{ran:?}");
        let log = world.log();
        let launch = log
            .iter()
            .find(|entry| entry["op"] == "launch")
            .expect("a launch");
        let widenings = launch["widenings"].to_string();
        assert!(
            widenings.contains(&format!("writable {out}")),
            "{widenings}"
        );
        assert!(
            widenings.contains("env TOKEN") && !widenings.contains("network"),
            "{widenings}"
        );
        assert_eq!(launch["tier"], "A");
    });
}

#[test]
fn an_agents_state_is_open_to_that_agent_alone() {
    each(|world| {
        let home = world.house.home();
        for name in [".claude", ".codex"] {
            fs::create_dir_all(home.join(name)).expect("a directory");
        }
        fs::write(home.join(".claude/settings.json"), "{}").expect("written");
        fs::create_dir_all(home.join("bin")).expect("a directory");
        let agent = "#!/bin/sh\necho mine > ~/.codex/state; echo evil > ~/.claude/settings.json || echo refused\n";
        fs::write(home.join("bin/codex"), agent).expect("written");
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(home.join("bin/codex"), open).expect("executable");
        give(&home, world.user);
        let program = home.join("bin/codex").display().to_string();
        let ran = world.run(&["run", "alice", "--", &program]);
        assert_eq!(ran.stdout, "refused\n", "{ran:?}");
        let read = |name: &str| fs::read_to_string(home.join(name)).unwrap_or_default();
        assert_eq!(read(".codex/state"), "mine\n");
        let ran = world.sh(&[], "echo evil > ~/.codex/state || echo refused");
        assert_eq!(ran.stdout, "refused\n", "{ran:?}");
        assert_eq!(
            (read(".codex/state"), read(".claude/settings.json")),
            ("mine\n".into(), "{}".into())
        );
        let launches: Vec<Value> = world
            .log()
            .into_iter()
            .filter(|entry| entry["op"] == "launch")
            .collect();
        let widenings = |at: usize| launches[at]["widenings"].to_string();
        assert!(widenings(0).contains(".codex") && !widenings(0).contains(".claude"));
        assert!(!widenings(1).contains(".codex"), "{launches:#?}");
    });
}

#[test]
fn what_steers_an_agent_stays_as_the_operator_left_it() {
    each(|world| {
        let home = world.house.home();
        for name in [".claude", ".pi/agent", ".config/opencode", "bin"] {
            fs::create_dir_all(home.join(name)).expect("a directory");
        }
        let files = [
            (".claude/settings.json", "{\"mine\":1}"),
            (".claude.json", "{\"mine\":2}"),
            (".config/opencode/opencode.json", "{\"mine\":3}"),
        ];
        for (name, text) in files {
            fs::write(home.join(name), text).expect("written");
        }
        // It tries what a hook that should run outside needs, each in its way, and works beside that.
        let agent = r"#!/bin/sh
cd ~/.claude || exit 1
echo evil > settings.json; rm settings.json; mv settings.json gone; ln -sf /evil settings.json
echo evil > settings.local.json; echo evil > CLAUDE.md; echo evil > hooks/evil; mkdir hooks/evil
echo x > new; mv new settings.local.json; mv hooks gone; rmdir hooks; ln settings.json hard
mv ~/.claude ~/.gone; mv ~/.pi/agent ~/.pi/gone; echo evil > ~/.pi/agent/settings.json
echo evil > ~/.pi/agent/extensions/evil
echo evil > ~/.claude.json && echo evil > ~/.config/opencode/opencode.json && cat ~/.claude.json
echo login > .credentials.json; mkdir -p projects && echo work > projects/one; echo key > ~/.pi/agent/auth.json
";
        fs::write(home.join("bin/claude"), agent).expect("written");
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(home.join("bin/claude"), open).expect("executable");
        give(&home, world.user);
        let line = "command -v opencode; command -v pi; exec ~/bin/claude 2>/dev/null";
        let ran = world.run(&["run", "alice", "--", "sh", "-c", line]);
        assert_eq!(ran.stdout, "evil\n", "{ran:?}");
        let read = |name: &str| fs::read_to_string(home.join(name)).unwrap_or_default();
        for (name, text) in files {
            assert_eq!(read(name), text, "{name}");
        }
        for name in ["settings.local.json", "CLAUDE.md", "hooks/evil"] {
            assert!(!read(&format!(".claude/{name}")).contains("evil"), "{name}");
        }
        assert!(!read(".pi/agent/settings.json").contains("evil"));
        assert!(!home.join(".pi/agent/extensions/evil").exists());
        assert!(!home.join(".gone").exists() && !home.join(".pi/gone").exists());
        let work = [
            ".claude/.credentials.json",
            ".claude/projects/one",
            ".pi/agent/auth.json",
        ];
        assert_eq!(work.map(read), ["login\n", "work\n", "key\n"]);
    });
}

/// A machine that is put together anew at each start has such a home: nobody can plant anything there.
#[test]
fn a_home_that_is_mounted_read_only_is_enough() {
    if !needs::root() {
        return;
    }
    let world = World::new(None);
    let home = world.house.home();
    for name in [".claude", ".local/state"] {
        fs::create_dir_all(home.join(name)).expect("a directory");
    }
    let script = r#"cd ~ && mount --make-rprivate / && mount --bind . . && cd ~ &&
        mount --bind .local/state .local/state && mount -o remount,bind,ro . &&
        cd "$0" && exec "$1" run alice -- sh -c 'command -v claude; command -v opencode; command -v pi; ls -A ~/.claude; echo x > ~/.claude/x || echo refused'"#;
    let root = world.root().display().to_string();
    let words = ["-m", "sh", "-c", script, &root, env!("CARGO_BIN_EXE_govfs")];
    let ran = ran(world.command("unshare", &words).output().expect("started"));
    assert_eq!(
        (ran.status, ran.stdout.as_str()),
        (0, "refused\n"),
        "{ran:?}"
    );
}

#[test]
fn a_repository_may_lie_in_shared_memory_and_may_be_the_home() {
    each(|world| {
        let shared = tempfile::tempdir_in("/dev/shm").expect("a room");
        give(shared.path(), world.user);
        let govfs = env!("CARGO_BIN_EXE_govfs");
        let work =
            "pwd; echo x > src/a.txt; cat src/a.txt; echo evil > docs/guide.md; cat docs/guide.md";
        let in_memory = r#"git clone -q . "$1/repo" && cd "$1/repo" && "$0" init >&2 && exec "$0" run alice --claim src -- sh -c "$2""#;
        let as_home =
            r#"cd "$1" && mkdir .cache && HOME="$1" exec "$0" run bob --claim src -- sh -c "$2""#;
        for (script, at) in [
            (in_memory, shared.path().to_owned()),
            (as_home, world.root()),
        ] {
            let at = at.display().to_string();
            let ran = ran(world
                .command("sh", &["-c", script, govfs, &at, work])
                .output()
                .expect("started"));
            assert_eq!(ran.status, 0, "{ran:?}");
            assert!(ran.stdout.ends_with("x\nguide\n"), "{ran:?}");
        }
    });
}

#[test]
fn what_is_hidden_has_no_directory_that_could_be_moved_away() {
    each(|world| {
        let home = world.house.home();
        fs::create_dir_all(home.join("open/deep")).expect("a directory");
        fs::write(home.join("open/deep/key"), "key\n").expect("written");
        fs::write(home.join("open/near"), "near\n").expect("written");
        give(&home, world.user);
        let at = |name: &str| home.join(name).display().to_string();
        let (open, deep, near) = (at("open"), at("open/deep/key"), at("open/near"));
        let run = |hidden: &str| {
            let tried =
                format!("cat {hidden} || mv {hidden} {open}/x || rm {hidden} || echo absent");
            world.run(&[
                "run", "alice", "--rw", &open, "--hide", hidden, "--", "sh", "-c", &tried,
            ])
        };
        let ran = run(&deep);
        assert_eq!(ran.status, 125, "{ran:?}");
        assert!(ran.stderr.contains("which is hidden"), "{ran:?}");
        assert_eq!(run(&near).stdout, "absent\n");
        assert_eq!(fs::read_to_string(&near).expect("still there"), "near\n");
    });
}

#[test]
fn a_state_directory_behind_a_link_is_the_sessions_own_copy() {
    each(|world| {
        let home = world.house.home();
        for name in ["dots/pi", ".pi"] {
            fs::create_dir_all(home.join(name)).expect("a directory");
        }
        fs::write(home.join("dots/pi/settings.json"), "{}").expect("written");
        std::os::unix::fs::symlink(home.join("dots/pi"), home.join(".pi/agent")).expect("a link");
        give(&home, world.user);
        let script = "command -v pi; rm ~/.pi/agent; mkdir -p ~/.pi/agent; echo evil > ~/.pi/agent/settings.json";
        let ran = world.run(&["run", "alice", "--", "sh", "-c", script]);
        assert_eq!(ran.status, 0, "{ran:?}");
        let link = fs::read_link(home.join(".pi/agent")).expect("still a link");
        assert_eq!(link, home.join("dots/pi"));
        let text = fs::read_to_string(home.join(".pi/agent/settings.json")).expect("readable");
        assert_eq!(text, "{}");
    });
}

#[test]
fn one_file_of_a_copied_cache_can_be_written_through() {
    each(|world| {
        let home = world.house.home();
        fs::create_dir_all(home.join(".cache/deep")).expect("a directory");
        fs::write(home.join(".cache/deep/file"), "one\n").expect("written");
        give(&home, world.user);
        let file = home.join(".cache/deep/file").display().to_string();
        let script = "echo two > ~/.cache/deep/file; echo mine > ~/.cache/other; ls ~/.cache";
        let words = ["run", "alice", "--rw", &file, "--", "sh", "-c", script];
        for _ in 0..2 {
            let ran = world.run(&words);
            assert_eq!(ran.stdout, "deep\nother\n", "{ran:?}");
        }
        assert_eq!(fs::read_to_string(file).expect("readable"), "two\n");
        assert!(!home.join(".cache/other").exists());
    });
}

#[test]
fn a_variable_moves_what_is_hidden_and_where_an_agent_keeps_its_state() {
    each(|world| {
        let home = world.house.home();
        let (data, state) = (world.house.path("data"), world.house.path("state"));
        for dir in [data.join("keyrings"), state.clone(), home.join("bin")] {
            fs::create_dir_all(&dir).expect("a directory");
        }
        fs::write(data.join("keyrings/login"), "secret\n").expect("written");
        fs::write(state.join("config.toml"), "mine\n").expect("written");
        let agent = "#!/bin/sh\ncat $XDG_DATA_HOME/keyrings/login || echo absent\necho work >$CODEX_HOME/auth.json; echo evil >$CODEX_HOME/config.toml || echo refused\n";
        fs::write(home.join("bin/codex"), agent).expect("written");
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(home.join("bin/codex"), open).expect("executable");
        for dir in [&data, &state, &home] {
            give(dir, world.user);
        }
        let program = home.join("bin/codex").display().to_string();
        let mut command = world.govfs(&["run", "alice", "--", &program]);
        command
            .env("XDG_DATA_HOME", &data)
            .env("CODEX_HOME", &state);
        let ran = ran(command.output().expect("the program starts"));
        assert_eq!(ran.stdout, "absent\nrefused\n", "{ran:?}");
        let read = |name: &str| fs::read_to_string(state.join(name)).expect("readable");
        assert_eq!(
            (read("auth.json"), read("config.toml")),
            ("work\n".into(), "mine\n".into())
        );
        assert!(!home.join(".codex").exists());
    });
}

#[test]
fn a_file_of_the_operators_alone_can_be_read_in_an_open_home_too() {
    everybody(|world| {
        let home = world.house.home();
        fs::write(home.join(".gitconfig"), "[user]\n\tname = me\n").expect("written");
        let mode = |path: &std::path::Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
        };
        give(&home, world.user);
        mode(&home.join(".gitconfig"), 0o600);
        for open in [0o700, 0o755] {
            mode(&home, open);
            let ran = world.sh(&[], "git config --global user.name; cat ~/.profile");
            assert_eq!(ran.stdout, "me\nprofile\n", "{open:o} {ran:?}");
        }
    });
}

#[test]
fn an_agent_that_is_started_for_the_first_time_has_its_settings_file() {
    each(|world| {
        let script = "command -v claude; cat ~/.claude.json; echo mine > ~/.claude.json && cat ~/.claude.json";
        for said in ["{}\nmine\n", "mine\nmine\n"] {
            let ran = world.sh(&[], script);
            assert_eq!(ran.stdout, said, "{ran:?}");
        }
        let own = world.house.home().join(".claude.json");
        assert_eq!(fs::read_to_string(own).expect("made"), "{}\n");
    });
}

#[test]
fn what_is_not_written_through_is_said_to_be_a_copy() {
    everybody(|world| {
        let out = world.house.path("out");
        fs::create_dir(&out).expect("a directory");
        give(&out, world.user);
        let name = out.display().to_string();
        let script = format!("echo new > {name}/new");
        let ran = world.run(&["run", "alice", "--rw", &name, "--", "sh", "-c", &script]);
        assert_eq!(ran.status, 0, "{ran:?}");
        let said = ran
            .stderr
            .contains(&format!("{name} was a copy of this session's"));
        assert_ne!(out.join("new").exists(), said, "{ran:?}");
    });
}

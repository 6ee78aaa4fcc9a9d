//! What the view covers stays covered, also where a program outside puts another file in its place meanwhile.

use std::fs;
use std::io::ErrorKind;
use std::io::Read;

use serde_json::Value;

use crate::common;
use crate::common::sealed::{World, everybody, give};

/// Makes files beneath the home, with their directories, as the operator's.
fn put(world: &World, files: &[(&str, &str)]) {
    let home = world.house.home();
    for (name, text) in files {
        let path = home.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("written");
    }
    give(&home, world.user);
}

/// Runs alice's `words` with a report, lets `change` happen while they run, and returns what they said and the report.
fn changed_meanwhile(world: &World, words: &[&str], change: impl FnOnce()) -> (String, Value) {
    let report = world.house.path("report");
    let place = report.display().to_string();
    let words = [&["run", "alice", "--report", &place][..], words].concat();
    let mut run = world.spawn(&words);
    let mut out = common::until_up(&mut run);
    change();
    common::tell(&mut run, "go\n");
    let mut said = String::new();
    out.read_to_string(&mut said).expect("read");
    let ran = common::finish(run);
    assert_eq!(ran.status, 0, "{ran:?}");
    let report = fs::read(report).expect("a report");
    (said, serde_json::from_slice(&report).expect("JSON"))
}

fn uncovered(report: &Value) -> Vec<String> {
    let list = report["uncovered"].as_array().cloned().unwrap_or_default();
    let name = |one: &Value| one["path"].as_str().unwrap_or_default().to_owned();
    list.iter().map(name).collect()
}

#[test]
fn what_steers_an_agent_stays_read_only_when_it_is_replaced() {
    everybody(|world| {
        let steering = [
            (".claude/settings.json", "{\"mine\":1}"),
            (".claude/CLAUDE.md", "mine"),
            (".claude/hooks/one", "mine"),
            (".pi/agent/settings.json", "{\"mine\":2}"),
        ];
        put(world, &steering);
        let home = world.house.home();
        let script = "command -v claude; command -v pi; echo up; read line
            for name in .claude/settings.json .claude/CLAUDE.md .claude/hooks .pi/agent .pi/agent/settings.json; do
                until grep -q \" $HOME/$name \" /proc/self/mountinfo; do sleep 0.01; done
            done
            for name in .claude/settings.json .claude/CLAUDE.md .claude/hooks/evil .pi/agent/settings.json; do
                { echo evil >$HOME/$name; } 2>/dev/null && echo wrote $name
            done
            mv ~/.pi/agent ~/.pi/gone 2>/dev/null && echo moved
            cat ~/.claude/settings.json ~/.pi/agent/settings.json; echo login >~/.claude/.credentials.json";
        let change = || {
            let at = |name: &str| home.join(name);
            fs::write(at(".claude/new"), "{\"mine\":3}").expect("written");
            fs::rename(at(".claude/new"), at(".claude/settings.json")).expect("saved");
            fs::remove_file(at(".claude/CLAUDE.md")).expect("removed");
            fs::rename(at(".claude/hooks"), at(".claude/old")).expect("moved away");
            fs::create_dir_all(at(".claude/hooks")).expect("made anew");
            fs::rename(at(".pi/agent"), at(".pi/old")).expect("moved away");
            fs::create_dir_all(at(".pi/agent")).expect("made anew");
            fs::write(at(".pi/agent/settings.json"), "{\"mine\":4}").expect("made anew");
            give(&home, world.user);
        };
        let (said, report) = changed_meanwhile(world, &["--", "sh", "-c", script], change);
        let read = |name: &str| fs::read_to_string(home.join(name)).unwrap_or_default();
        assert_eq!(read(".claude/settings.json"), "{\"mine\":3}");
        assert_eq!(read(".claude/CLAUDE.md"), "");
        assert!(!home.join(".claude/hooks/evil").exists());
        assert_eq!(read(".pi/agent/settings.json"), "{\"mine\":4}");
        if uncovered(&report).is_empty() {
            // Root who may map nothing gives the agent copies, in which nobody replaces anything.
            assert_eq!(said, "{\"mine\":1}{\"mine\":2}");
            return;
        }
        assert_eq!(said, "{\"mine\":3}{\"mine\":4}");
        assert_eq!(read(".claude/.credentials.json"), "login\n");
        for (name, _) in steering {
            let path = home.join(name).display().to_string();
            let told = uncovered(&report);
            assert!(told.iter().any(|told| path.starts_with(told)), "{told:?}");
        }
    });
}

#[test]
fn a_state_directory_that_is_removed_is_closed_and_ends_nothing() {
    everybody(|world| {
        put(world, &[(".claude/settings.json", "{}")]);
        let place = world.house.home().join(".claude");
        let script = "command -v claude; echo up; read line
            for try in 1 2 3; do { echo evil >~/.claude/settings.json; } 2>/dev/null; mkdir -p ~/.claude/hooks; done
            echo done";
        let change = || {
            // What is made again meanwhile is removed again.
            while fs::remove_dir_all(&place).is_err_and(|error| error.kind() != ErrorKind::NotFound)
            {
            }
            fs::create_dir(&place).expect("made anew");
            give(&place, world.user);
        };
        let (said, report) = changed_meanwhile(world, &["--", "sh", "-c", script], change);
        assert_eq!(said, "done\n", "{report}");
        let settings = fs::read_to_string(place.join("settings.json"));
        assert!(
            !settings.is_ok_and(|text| text.contains("evil")),
            "{report}"
        );
    });
}

#[test]
fn what_is_hidden_stays_so_when_it_is_replaced_or_made() {
    everybody(|world| {
        // So many that the home cannot be built anew: what is hidden in it is covered.
        let many: Vec<String> = (0..300).map(|at| format!("many-{at}")).collect();
        let many = many.iter().map(|name| (name.as_str(), ""));
        put(
            world,
            &many.chain([(".netrc", "secret")]).collect::<Vec<_>>(),
        );
        let home = world.house.home();
        let script = "echo up; read line
            for name in .netrc .late .aws/credentials; do
                until grep -q \" $HOME/$name \" /proc/self/mountinfo || test ! -e $HOME/$name; do sleep 0.01; done
                cat $HOME/$name $HOME/$name/* 2>/dev/null
            done; echo done";
        let (late, aws) = (
            home.join(".late").display().to_string(),
            home.join(".aws/credentials").display().to_string(),
        );
        let words = ["--hide", &late, "--hide", &aws, "--", "sh", "-c", script];
        let change = || {
            fs::write(home.join("new"), "secret").expect("written");
            fs::rename(home.join("new"), home.join(".netrc")).expect("saved");
            put(
                world,
                &[(".late/key", "secret"), (".aws/credentials", "secret")],
            );
        };
        let (said, report) = changed_meanwhile(world, &words, change);
        assert_eq!(said, "done\n", "{report}");
        assert_eq!(
            report["uncovered"][0]["hidden"],
            Value::Bool(true),
            "{report}"
        );
    });
}

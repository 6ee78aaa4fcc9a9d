//! The fleet with real agents, sealed in real mounts.

use std::fmt::Write;
use std::fs;
use std::io::{Read, Write as _};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::common::House;

/// Writes plans; each agent counts its runs outside of what is merged, by lines it says.
fn plans(
    house: &House,
    count: usize,
    command: impl Fn(usize) -> String,
    needs: impl Fn(usize) -> Vec<usize>,
) -> Vec<String> {
    let mut files = Vec::new();
    for n in 0..count {
        let needs: Vec<String> = needs(n).iter().map(|n| format!("\"p{n}\"")).collect();
        let mut text = String::new();
        let _ = write!(
            text,
            "dependencies = [{}]\n[claims]\nfiles = [\"work/{n}\"]\n[run]\ncommand = '''{}'''\n",
            needs.join(", "),
            command(n)
        );
        files.push(house.fix(&format!("p{n}"), &text));
    }
    let mut add = vec!["plan", "add"];
    add.extend(files.iter().map(String::as_str));
    house.ok(&add);
    files
}

fn states(house: &House) -> Vec<(String, String)> {
    let list = house.json(&["queue", "list"]);
    let plans = list["plans"].as_array().expect("plans").clone();
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    plans
        .iter()
        .map(|plan| (text(&plan["id"]), text(&plan["state"])))
        .collect()
}

fn clean(house: &House) {
    house.holds();
    house.ok(&["queue", "git-check"]);
    let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
    let root = house.root();
    assert!(
        !mounts.contains(&*root.to_string_lossy()),
        "a mount is left behind"
    );
}

#[test]
fn plans_run_in_order_and_failures_block_with_the_reason() {
    let house = House::new();
    let command = |n: usize| match n {
        2 => "echo 'no luck' >&2; exit 7".to_owned(),
        _ => format!(
            "mkdir -p work/{n} && cat work/0/x > work/{n}/y 2>/dev/null; echo {n} > work/{n}/x"
        ),
    };
    plans(&house, 5, command, |n| match n {
        0 => Vec::new(),
        4 => vec![2],
        _ => vec![0],
    });
    let schedule = house.json(&["fleet", "run", "--dry-run", "--jobs", "2"]);
    assert_eq!(schedule["rounds"][0], serde_json::json!(["p0"]));
    assert_eq!(
        house.ok(&["log", "--op", "fleet"]),
        "",
        "a rehearsal does nothing"
    );
    let ran = house.fails(3, &["fleet", "run", "--once", "--jobs", "2"]);
    let last = ran.stdout.lines().last().expect("a line").to_owned();
    let end: serde_json::Value = serde_json::from_str(&last).expect("a document");
    assert_eq!(end["done"], 3);
    assert_eq!(end["blocked"][0]["plan"], "p2");
    assert!(
        end["blocked"][0]["reason"]
            .as_str()
            .expect("a reason")
            .contains("ended with 7"),
        "{end}"
    );
    assert_eq!(end["waiting"][0]["plan"], "p4");
    assert_eq!(
        house.git(&["show", "HEAD:work/1/y"]),
        "0",
        "it saw what it depends on"
    );
    let launches = house.ok(&["--json", "log", "--op", "fleet"]);
    let of_two = launches
        .lines()
        .filter(|line| line.contains("\"launch\"") && line.contains("\"p2\""));
    assert_eq!(of_two.count(), 2, "one attempt and one more");
    let status = house.json(&["fleet", "status"]);
    assert_eq!(status["running"], false);
    house.fails(5, &["fleet", "stop"]);
    clean(&house);
}

#[test]
fn a_killed_coordinator_goes_on_and_runs_nothing_twice() {
    const AGENTS: usize = 30;
    let house = House::new();
    let runs = house.path("runs");
    fs::create_dir(&runs).expect("a directory");
    let command = |n: usize| {
        format!(
            "mkdir -p work/{n}; for i in 1 2 3; do echo $i > work/{n}/f$i; done; sleep 0.2; echo ran-{n}"
        )
    };
    plans(&house, AGENTS, command, |n| {
        if n % 5 == 4 { vec![n - 1] } else { Vec::new() }
    });
    let begin = Instant::now();
    let mut kills = 0;
    let mut wait = 137;
    loop {
        let mut child = house
            .command(&["--json", "fleet", "run", "--once", "--jobs", "10"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the fleet starts");
        wait = (wait * 7919 + 13) % 1500;
        let until = Instant::now() + Duration::from_millis(100 + wait);
        let ended = loop {
            if let Some(status) = child.try_wait().expect("a status") {
                break Some(status);
            }
            // The moment of the kill is the test's own: no state is waited for.
            if Instant::now() > until && kills < 12 {
                child.kill().expect("it is killed");
                child.wait().expect("an end");
                kills += 1;
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        if let Some(status) = ended {
            assert_eq!(status.code(), Some(0));
            break;
        }
        assert!(
            begin.elapsed() < Duration::from_secs(240),
            "{:?}",
            states(&house)
        );
    }
    assert!(kills > 0, "it was never killed");
    assert!(
        states(&house).iter().all(|(_, state)| state == "done"),
        "{:?}",
        states(&house)
    );
    for n in 0..AGENTS {
        assert_eq!(house.git(&["show", &format!("HEAD:work/{n}/f3")]), "3");
        let log = fs::read_to_string(house.root().join(format!(".git/govfs/fleet/p{n}.log")))
            .expect("a log");
        let entries = || house.ok(&["--json", "log", "--agent", &format!("p{n}")]);
        let ran = log.matches(&format!("ran-{n}\n")).count();
        assert_eq!(ran, 1, "p{n}: {log}\n{}", entries());
    }
    clean(&house);
}

#[test]
fn a_stopped_fleet_ends_its_programs_and_takes_them_up_again() {
    let house = House::new();
    let flag = "work/0/started";
    plans(
        &house,
        1,
        |_| {
            format!(
                "mkdir -p work/0; if [ -e {flag} ]; then echo again > work/0/x; else touch {flag}; sleep 100; fi"
            )
        },
        |_| Vec::new(),
    );
    let child = house.spawn(&["--json", "fleet", "run", "--once"]);
    let begin = Instant::now();
    loop {
        let log = house.run(&["--json", "log", "--session", "p0-1"]).stdout; // not there yet, perhaps
        if log.contains("started") {
            break;
        }
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "it never started: {log}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    house.ok(&["fleet", "stop"]);
    let output = child.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(states(&house)[0].1, "in_progress");
    house.ok(&["fleet", "run", "--once", "--retries", "0"]);
    assert_eq!(states(&house)[0].1, "done");
    assert_eq!(house.git(&["show", "HEAD:work/0/x"]), "again");
    clean(&house);
}

#[test]
fn a_fleet_whose_worktree_is_gone_still_merges() {
    let house = House::new();
    let mark = "work/0/x";
    let work = |_| format!("mkdir -p work/0; echo x > {mark}; sleep 2");
    plans(&house, 1, work, |_| Vec::new());
    let other = house.path("other").display().to_string();
    house.git(&["worktree", "add", "-q", "-b", "side", &other]);
    let child = house.spawn(&["-C", &other, "--json", "fleet", "run", "--once"]);
    let begin = Instant::now();
    while !house
        .run(&["--json", "log", "--session", "p0-1"])
        .stdout
        .contains(mark)
    {
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "it never started"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    house.git(&["worktree", "remove", "--force", &other]);
    let output = child.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(states(&house)[0].1, "done");
    assert_eq!(house.git(&["show", "HEAD:work/0/x"]), "x");
    clean(&house);
}

#[test]
fn a_fleet_waits_for_reviews_and_goes_on_when_they_come() {
    let house = House::new();
    house.charter("[reviews]\nrequired = 1\n[merge]\npeople = [\"op\"]");
    house.ok(&["agent", "add", "rob"]);
    plans(
        &house,
        2,
        |n| format!("mkdir -p work/{n}; echo {n} > work/{n}/x"),
        |n| if n == 1 { vec![0] } else { Vec::new() },
    );
    house.ok(&["fleet", "run", "--once"]);
    assert_eq!(states(&house)[0].1, "in_progress", "it waits");
    let child = house.spawn(&["--json", "fleet", "run"]);
    let begin = Instant::now();
    for n in 0..2 {
        let agent = format!("p{n}");
        while !house
            .ok(&["--json", "review", "list"])
            .contains(&format!("\"agent\":\"{agent}\""))
        {
            assert!(begin.elapsed() < Duration::from_secs(60), "nobody asked");
            std::thread::sleep(Duration::from_millis(20));
        }
        house.ok(&["review", "approve", &agent, "--as", "rob"]);
    }
    while !states(&house).iter().all(|(_, state)| state == "done") {
        assert!(
            begin.elapsed() < Duration::from_secs(90),
            "{:?}",
            states(&house)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    house.ok(&["fleet", "stop"]);
    let output = child.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let log = house.ok(&["--json", "log", "--op", "fleet"]);
    assert_eq!(log.matches("\"launch\"").count(), 2, "{log}");
    clean(&house);
}

/// The program on a terminal of its own, by the keyboard of `script`.
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: mpsc::Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn new(house: &House, words: &str) -> Self {
        let line = format!("exec {} {words}", env!("CARGO_BIN_EXE_govfs"));
        let mut child = house
            .hermetic("script", &house.root())
            .args(["-qefc", &line, "/dev/null"])
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script starts");
        let keyboard = child.stdin.take().expect("a keyboard");
        let mut output = child.stdout.take().expect("a screen");
        let (send, screen) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                if send.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            keyboard,
            screen,
            seen: String::new(),
        }
    }

    /// Waits until the screen has shown `text`.
    fn shows(&mut self, text: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        while !self.seen.contains(text) {
            let left = end.saturating_duration_since(Instant::now());
            let bytes = self.screen.recv_timeout(left);
            let bytes = bytes.unwrap_or_else(|_| panic!("no {text:?} in {}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    fn press(&mut self, key: u8) {
        self.keyboard.write_all(&[key]).expect("a key");
    }

    /// Waits for the end and returns the status and all that was shown.
    fn end(mut self) -> (i32, String) {
        while let Ok(bytes) = self.screen.recv_timeout(Duration::from_secs(60)) {
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        let status = self.child.wait().expect("an end");
        (status.code().unwrap_or(-1), self.seen)
    }
}

const CONTROL_C: u8 = 3;

#[test]
fn a_terminal_shows_a_live_table_and_control_c_ends_it_cleanly() {
    let house = House::new();
    let command = |n: usize| match n {
        0 => "mkdir -p work/0; [ -e work/0/x ] && exit; echo x > work/0/x; sleep 100".to_owned(),
        n => format!("mkdir -p work/{n}; echo {n} > work/{n}/x"),
    };
    plans(&house, 3, command, |n| {
        if n == 2 { vec![0] } else { Vec::new() }
    });
    let mut terminal = Terminal::new(&house, "fleet run --jobs 2");
    terminal.shows("1/3 done");
    terminal.shows("launch");
    terminal.press(CONTROL_C);
    let (status, seen) = terminal.end();
    assert_eq!(status, 0, "{seen}");
    for part in [
        "AGENT",
        "p0",
        "p1",
        "stopping",
        "1 done, 0 blocked",
        "p0: it was stopped",
    ] {
        assert!(seen.contains(part), "{part:?} in {seen}");
    }
    assert!(!seen.contains("{\"schema\""), "{seen}");
    assert_eq!(states(&house)[0].1, "in_progress");
    clean(&house);
    // On a pipe the same goes on in lines of JSON.
    let lines = house.ok(&["fleet", "run", "--once"]);
    let events: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a document"))
        .map(|line| line["event"].as_str().expect("an event").to_owned())
        .collect();
    assert_eq!(events[0], "resume", "{events:?}");
    assert_eq!(events.last().map(String::as_str), Some("end"));
    assert!(states(&house).iter().all(|(_, state)| state == "done"));
    clean(&house);
}

#[test]
fn a_second_control_c_kills_what_does_not_end() {
    let house = House::new();
    let stubborn = "trap '' TERM INT HUP; mkdir -p work/0; if [ -e work/0/x ]; then exit 0; fi; echo x > work/0/x; sleep 100; sleep 100";
    plans(&house, 1, |_| stubborn.to_owned(), |_| Vec::new());
    let mut terminal = Terminal::new(&house, "fleet run --once");
    let begin = Instant::now();
    // The launch names the file too, in its command: its own entry is waited for.
    while !house
        .run(&["--json", "log", "--session", "p0-1"])
        .stdout
        .contains("\"path\":\"work/0/x\"")
    {
        assert!(begin.elapsed() < Duration::from_secs(60), "it never wrote");
        std::thread::sleep(Duration::from_millis(20));
    }
    terminal.press(CONTROL_C);
    terminal.shows("stopping");
    let begin = Instant::now();
    terminal.press(CONTROL_C);
    let (status, seen) = terminal.end();
    assert_eq!(status, 0, "{seen}");
    assert!(begin.elapsed() < Duration::from_secs(8), "{seen}");
    assert_eq!(states(&house)[0].1, "in_progress");
    house.ok(&["fleet", "run", "--once"]);
    assert_eq!(states(&house)[0].1, "done");
    clean(&house);
}

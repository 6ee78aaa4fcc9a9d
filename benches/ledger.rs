//! How fast entries are written and verified: `cargo bench --bench ledger`.
//!
//! Prints one row a figure: the best and the median of the rounds, beside the goal.
//! The best is the machine's quiet moment; the median is what it did today.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints its table, and one that cannot run has no result"
)]

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::json;

use govfs::app::clock;
use govfs::app::site::Site;
use govfs::app::verify;
use govfs::domain::checkpoint::{Checkpoint, Origin, SecretKey};
use govfs::domain::digest::Digest;
use govfs::domain::entry::{Chain, Encoder, Head, encode, leaf};
use govfs::domain::event::{Answered, Draft, Event};
use govfs::domain::export::{CHECKPOINT, KEY, LEDGER, README, readme};
use govfs::domain::logop::{Actor, LogOp};
use govfs::domain::names::{AgentName, SessionId};
use govfs::domain::path::RepoPath;
use govfs::domain::proof::Tree;
use govfs::domain::time::Timestamp;
use govfs::store::exported;
use govfs::store::writelog::WriteLog;

const ENTRIES: u32 = 200_000;
const ROUNDS: usize = 9;
const NOW: i64 = 1_795_156_200_000_000_000;

struct Figure {
    name: &'static str,
    /// Entries a second, or microseconds an entry.
    rate: bool,
    goal: f64,
    seconds: Vec<f64>,
}

impl Figure {
    fn print(&mut self) {
        self.seconds.sort_by(f64::total_cmp);
        let show = |seconds: f64| {
            if self.rate {
                f64::from(ENTRIES) / seconds
            } else {
                seconds / f64::from(ENTRIES) * 1e6
            }
        };
        let (best, median) = (show(self.seconds[0]), show(self.seconds[ROUNDS / 2]));
        let (unit, sign, digits) = if self.rate {
            ("entries/s", ">=", 0)
        } else {
            ("µs", "<=", 3)
        };
        println!(
            "{:<44} {best:>12.digits$} {median:>12.digits$} {sign} {:<9} {unit}",
            self.name, self.goal
        );
    }
}

fn names() -> (AgentName, SessionId) {
    ("claude-1".parse().unwrap(), "claude-1-12".parse().unwrap())
}

fn write_op() -> LogOp {
    LogOp::Write {
        path: RepoPath::parse(b"src/vfs/overlay/some_module_name.rs").unwrap(),
        offset: 123_456,
        len: 4096,
        sha256: Digest::of(b"data"),
        claim: 1234,
        by: Actor {
            pid: 123_456,
            exe: None,
            start: None,
        },
    }
}

fn build_and_hash() {
    let (agent, session) = names();
    let mut encoder = Encoder::new(&agent, &session);
    let (mut chain, mut tree) = (Chain::new(Digest::ZERO), Tree::new());
    let op = write_op();
    for n in 0..ENTRIES {
        let ts = chain.stamp(Timestamp(NOW + i64::from(n) * 1700));
        let entry = encoder.encode(chain.seq(), &chain.prev(), ts, black_box(&op));
        tree.push(entry.leaf);
        chain.advance(entry.leaf, ts);
    }
    black_box(tree.root());
}

fn append(path: &Path) {
    let (agent, session) = names();
    let _ = fs::remove_file(path);
    let mut log = WriteLog::create(path, &agent, &session, Digest::ZERO).unwrap();
    let op = write_op();
    for n in 0..ENTRIES {
        let now = Timestamp(NOW + i64::from(n) * 1700);
        log.append(now, black_box(&op)).unwrap();
    }
}

fn open(path: &Path) {
    let (agent, session) = names();
    let opened = WriteLog::open(path, &agent, &session, Digest::ZERO, None, &mut |_| {});
    assert_eq!(opened.unwrap().0.count(), u64::from(ENTRIES));
}

/// Writes an export of as many control entries.
fn write_export(dir: &Path) {
    let (mut chain, mut tree) = (Chain::new(Digest::ZERO), Tree::new());
    let mut text = Vec::new();
    for n in 0..ENTRIES {
        let ts = chain.stamp(Timestamp(NOW + i64::from(n)));
        let head = Head {
            seq: chain.seq(),
            prev: chain.prev(),
            ts,
            op: "claim",
            agent: Some("claude-1"),
            session: None,
        };
        let claim = json!({"id": n, "pattern": "src/vfs/**", "mode": "write", "generation": 1});
        let body = json!({"claims": [claim], "decision": "allow", "lease": {"ttl_ms": 7_200_000}});
        let line = encode(&head, body.as_object().unwrap()).unwrap();
        chain.advance(leaf(&line), ts);
        tree.push(chain.prev());
        text.extend_from_slice(&line);
        text.push(b'\n');
    }
    let key = SecretKey::of_bytes(&[1; 32]);
    let checkpoint = Checkpoint {
        origin: Origin::of_random([1; 16]),
        size: tree.size(),
        root: tree.root(),
    };
    fs::write(dir.join(LEDGER), text).unwrap();
    fs::write(dir.join(CHECKPOINT), checkpoint.sign(&key)).unwrap();
    fs::write(dir.join(KEY), key.public().der()).unwrap();
    fs::write(dir.join(README), readme(&checkpoint)).unwrap();
}

fn verify_export(dir: &Path) {
    let verified = exported::verify(dir, None, &[]).unwrap();
    assert_eq!(verified.entries, u64::from(ENTRIES));
}

/// Makes a repository whose ledger has as many entries.
fn repository(dir: &Path) -> Site {
    let run = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).current_dir(dir).env("HOME", dir);
        for name in ["XDG_CONFIG_HOME", "XDG_STATE_HOME"] {
            command.env_remove(name);
        }
        assert!(command.output().unwrap().status.success(), "{program}");
    };
    run("git", &["init", "-q", "-b", "main", "."]);
    run(env!("CARGO_BIN_EXE_govfs"), &["init"]);
    let mut site = Site::open(dir).unwrap();
    let lines = site.ledger.lines().unwrap().size().unwrap();
    let mut turn = site.ledger.turn(&clock::now).unwrap();
    for n in lines..u64::from(ENTRIES) {
        let reason = "src/vfs/overlay/some_module_name.rs is held by claude-2 (src/vfs/**)";
        let answered = Answered {
            request: n,
            reason: reason.to_owned(),
        };
        turn.append(&Draft::new(Event::Deny(answered))).unwrap();
    }
    turn.commit().unwrap();
    site
}

fn verify_ledger(site: &mut Site) {
    let report = verify::verify(site, &verify::Options::default()).unwrap();
    assert_eq!(report.entries, u64::from(ENTRIES));
}

fn time(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log.jsonl");
    write_export(dir.path());
    let figure = |name, rate, goal| Figure {
        name,
        rate,
        goal,
        seconds: Vec::new(),
    };
    let mut figures = [
        figure("write-log entry built and hashed", false, 0.7),
        figure("the same with its write(2)", false, 1.6),
        figure("write log opened and checked", true, 500_000.0),
        figure("export verified", true, 500_000.0),
        figure("ledger verified, as the verb does", true, 500_000.0),
    ];
    let house = tempfile::tempdir().unwrap();
    let mut site = repository(house.path());
    // Interleaved, so that a busy moment of the machine meets every row.
    for _ in 0..ROUNDS {
        figures[0].seconds.push(time(build_and_hash));
        figures[1].seconds.push(time(|| append(&log)));
        figures[2].seconds.push(time(|| open(&log)));
        figures[3].seconds.push(time(|| verify_export(dir.path())));
        figures[4].seconds.push(time(|| verify_ledger(&mut site)));
    }
    println!("{:<44} {:>12} {:>12}    goal", "", "best", "median");
    for figure in &mut figures {
        figure.print();
    }
}

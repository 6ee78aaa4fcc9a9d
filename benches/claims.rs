//! How long a claim takes when ten thousand are held: `cargo bench --bench claims`.
//!
//! Prints one row a figure: p50 and p95 from the start of the process to its exit,
//! and of the decision alone, beside the goal for the p50. Two populations are held:
//! paths, and globs; a path covers what lies beneath it, so `**/name` meets them all.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints its table, and one that cannot run has no result"
)]

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

#[path = "../tests/common/mod.rs"]
mod common;

use common::House;
use govfs::app::clock;
use govfs::domain::claim::Ask;
use govfs::domain::command::Command as Wish;
use govfs::domain::event::Mode;
use govfs::domain::pattern::Pattern;
use govfs::store::ledger::Ledger;

const HOLDERS: usize = 100;
const EACH: usize = 100;
const ROUNDS: usize = 60;

/// A repository in which ten thousand claims are held.
struct Full(House);

impl Full {
    fn new(held: fn(usize) -> String) -> Self {
        let house = House::new();
        let mut ledger = Ledger::open(&house.root().join(".git/govfs")).unwrap();
        for holder in 0..HOLDERS {
            let patterns = (0..EACH).map(|n| pattern(&held(holder * EACH + n)));
            let name = format!("holder-{holder}").parse().unwrap();
            let ask = Ask::new(name, Mode::Write, patterns.collect());
            let mut turn = ledger.turn(&clock::now).unwrap();
            assert_eq!(turn.command(&Wish::Claim(ask)).unwrap(), None);
            turn.commit().unwrap();
        }
        Self(house)
    }

    /// Runs a program here, and returns its milliseconds and whether it succeeded.
    fn run(&self, program: &str, args: &[&str]) -> (f64, bool) {
        let mut command = self.0.hermetic(program, &self.0.root());
        command
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let start = Instant::now();
        let status = command.status().unwrap();
        (start.elapsed().as_secs_f64() * 1e3, status.success())
    }

    /// What any process costs here, for comparison.
    fn starts(&self) {
        let times = (0..ROUNDS).map(|_| self.run("git", &["version"]).0);
        print("for comparison: git version", times.collect(), 10.0);
    }

    /// The decision alone: what a new claim meets among all that are held.
    fn decides(&self, name: &str, text: &str) {
        let mut ledger = Ledger::open(&self.0.root().join(".git/govfs")).unwrap();
        let times = (0..ROUNDS).map(|_| {
            let start = Instant::now();
            let ask = Ask::new(
                "newcomer".parse().unwrap(),
                Mode::Write,
                vec![pattern(text)],
            );
            let mut turn = ledger.turn(&clock::now).unwrap();
            std::hint::black_box(turn.command(&Wish::Claim(ask)).unwrap());
            start.elapsed().as_secs_f64() * 1e3 // the turn is dropped, so nothing was claimed
        });
        print(name, times.collect(), 5.0);
    }

    fn claims(&self, name: &str, granted: bool, text: impl Fn(usize) -> String) {
        let govfs = env!("CARGO_BIN_EXE_govfs");
        let times = (0..ROUNDS).map(|n| {
            let (ms, done) = self.run(govfs, &["claim", "newcomer", &text(n)]);
            assert_eq!(done, granted, "{name}");
            ms
        });
        print(name, times.collect(), 10.0);
    }
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text.as_bytes()).unwrap()
}

fn print(name: &str, mut ms: Vec<f64>, goal: f64) {
    ms.sort_by(f64::total_cmp);
    let (half, most) = (ms[ms.len() / 2], ms[ms.len() * 95 / 100]);
    println!("{name:<52} {half:>9.3} {most:>9.3}  <= {goal} ms");
}

fn path(n: usize) -> String {
    format!("src/package{}/module{}/file{n}.rs", n % 50, n % 700)
}

fn glob(n: usize) -> String {
    format!("src/package{}/module{}/part{n}_*.rs", n % 50, n % 700)
}

fn store(house: &Path) -> u64 {
    std::fs::metadata(house.join(".git/govfs/ledger.db")).map_or(0, |meta| meta.len())
}

fn main() {
    println!("{:<52} {:>9} {:>9}", "", "p50", "p95");
    let paths = Full::new(path);
    paths.decides("overlap: a path among 10000 paths", "src/package7/new.rs");
    paths.decides("overlap: **/name among 10000 paths (all meet)", "**/name");
    paths.starts();
    paths.claims("claim, 10000 paths held: a new path", true, |n| {
        format!("src/package7/new{n}")
    });
    paths.claims("claim, 10000 paths held: refused", false, |_| {
        "src/package7".to_owned()
    });
    paths.claims("claim, 10000 paths held: **/name (all meet)", false, |n| {
        format!("**/name{n}")
    });
    let globs = Full::new(glob);
    globs.decides("overlap: src/*/x*.rs among 10000 globs", "src/*/x*.rs");
    globs.decides("overlap: **/name among 10000 globs", "**/name");
    globs.decides("overlap: **/part9_*.rs among 10000 globs", "**/part9_*.rs");
    globs.claims("claim, 10000 globs held: a new path", true, |n| {
        format!("src/package7/new{n}")
    });
    globs.claims("claim, 10000 globs held: **/name", true, |n| {
        format!("**/name{n}")
    });
    globs.claims("claim, 10000 globs held: **/*.txt", true, |n| {
        format!("**/*.{n}txt")
    });
    globs.claims("claim, 10000 globs held: src/**/x*.rs", true, |n| {
        format!("src/**/x{n}*.rs")
    });
    println!("ledger: {} bytes", store(&globs.0.root()));
}

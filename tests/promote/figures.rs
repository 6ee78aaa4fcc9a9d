//! What a merge costs: its changes, not its repository.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use govfs::domain::logop::FileMode;
use govfs::git::promote::{Change, Plain, Promote, What};

use crate::{git, path, spec};

/// Fills a bare repository with `count` files, a hundred a directory.
fn fill(dir: &std::path::Path, count: usize) {
    let mut stream = String::from("blob\nmark :1\ndata 2\nx\n\ncommit refs/heads/main\n");
    stream.push_str("committer o <o@x> 1800000000 +0000\ndata 1\nm\n");
    for n in 0..count {
        writeln!(
            stream,
            "M 100644 :1 d{}/e{}/f{n}",
            n / 10_000,
            n / 100 % 100
        )
        .unwrap();
    }
    stream.push_str("\ndone\n");
    let mut child = Command::new("git")
        .args(["fast-import", "--quiet", "--done"])
        .current_dir(dir)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(stream.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
}

/// Merges 100 changed files against a tip that moved, and says how long that took
/// and, apart, how long the checkout took to follow.
fn merge_100(promote: &Promote, count: usize, round: usize) -> (Duration, Duration) {
    let target = promote.target("main").unwrap();
    let tip = target.tip.unwrap();
    let base = promote.first_parent(tip).unwrap().unwrap_or(tip);
    let (base, ours) = (
        promote.tree_of(base).unwrap(),
        promote.tree_of(tip).unwrap(),
    );
    let start = Instant::now();
    let mut stage = promote.stage().unwrap();
    let changes: Vec<Change> = (0..100)
        .map(|k| {
            let n = (k * (count / 100) + round) % count;
            let blob = stage
                .blob(format!("{round} {n}\n").repeat(200).as_bytes())
                .unwrap();
            Change {
                path: path(&format!("d{}/e{}/f{n}", n / 10_000, n / 100 % 100)),
                what: What::Put {
                    mode: FileMode::Plain,
                    blob,
                },
            }
        })
        .collect();
    let candidate = stage.tree(Some(base), &changes).unwrap();
    let merged = stage.merge(Some(base), Some(ours), candidate).unwrap();
    assert_eq!(merged.conflicts, []);
    let new = stage.commit(&spec(merged.tree, &[tip])).unwrap();
    stage.settle(&[new]).unwrap();
    let follow = promote
        .prepare_follow(&target, merged.tree, &Plain, false)
        .unwrap();
    promote.advance(&target, new, "merge").unwrap();
    let paused = Instant::now();
    follow.finish(promote, &Plain).unwrap();
    let followed = paused.elapsed();
    let promised: Vec<_> = changes.iter().map(Change::promise).collect();
    promote.recheck(&target, new, &promised).unwrap();
    (start.elapsed().saturating_sub(followed), followed)
}

/// Run with `--release -- --ignored --nocapture figures`.
#[test]
#[ignore = "a measurement: it fills large repositories"]
fn figures_of_merging_100_changes() {
    for (count, bare) in [
        (400, true),
        (40_000, true),
        (400_000, true),
        (400, false),
        (40_000, false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let init: &[&str] = &["init", "-q", "-b", "main"];
        git(
            dir.path(),
            if bare {
                &["init", "-q", "--bare", "-b", "main"]
            } else {
                init
            },
        );
        fill(dir.path(), count);
        if !bare {
            git(dir.path(), &["reset", "-q", "--hard"]);
        }
        let promote = Promote::open(dir.path()).unwrap();
        let (mut times, mut follows): (Vec<Duration>, Vec<Duration>) = (0..11)
            .map(|round| merge_100(&promote, count, round))
            .unzip();
        times.sort();
        follows.sort();
        let kind = if bare { "bare" } else { "checked out" };
        println!(
            "{count} files, {kind}: p50 {:?}, worst {:?}; follow p50 {:?}",
            times[5], times[10], follows[5]
        );
        assert!(times[5] < Duration::from_millis(100), "{count}: {times:?}");
        if !bare {
            assert_eq!(git(dir.path(), &["status", "--porcelain"]), "");
        }
    }
}

//! What the mount costs beside the file system under it. Run by hand, in release:
//! `cargo test --release --test mount figures -- --ignored --nocapture`.

#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "figures are printed; a test says what it found by failing"
)]

use std::collections::BTreeMap;
use std::fs;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::common::bench;
use crate::common::bench::Bench;
use crate::common::bench::MapBase;
use crate::common::bench::Thing;
use crate::common::mount::mount_with;
use crate::common::needs;

const FILES: usize = 20_000;
const ROUNDS: usize = 5;

/// One kind of work: its name, how often its unit is done, and the work.
type Work<'a> = (&'a str, usize, &'a dyn Fn(&Path));

fn seconds(act: impl FnOnce()) -> f64 {
    let start = Instant::now();
    act();
    start.elapsed().as_secs_f64()
}

fn name(number: usize) -> String {
    format!("w/d{:03}/f{number:05}.rs", number / 40)
}

fn grep(top: &Path) {
    let status = Command::new("grep")
        .args(["-r", "no such text"])
        .arg(top.join("w"))
        .status();
    assert!(status.unwrap().code() == Some(1));
}

fn find(top: &Path) {
    let output = Command::new("find")
        .arg(top.join("w"))
        .args(["-size", "+100k"])
        .output();
    assert!(output.unwrap().status.success());
}

fn rewrite(top: &Path) {
    for number in 0..2000 {
        fs::write(top.join(name(number)), [b'x'; 4096]).unwrap();
    }
}

fn append(top: &Path) {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(top.join("w/log"))
        .unwrap();
    for _ in 0..20_000 {
        file.write_all(&[b'x'; 100]).unwrap();
    }
}

fn sequential(top: &Path) {
    let mut file = fs::File::create(top.join("w/big")).unwrap();
    for _ in 0..256 {
        file.write_all(&vec![b'x'; 1 << 20]).unwrap();
    }
}

fn random(top: &Path) {
    let file = OpenOptions::new()
        .write(true)
        .open(top.join("w/big"))
        .unwrap();
    for at in 0..10_000_u64 {
        file.write_all_at(&[b'y'; 4096], (at * 7919 % 65_536) * 4096)
            .unwrap();
    }
}

fn save(top: &Path) {
    for number in 0..1000 {
        fs::write(top.join("w/t"), [b'x'; 4096]).unwrap();
        fs::rename(top.join("w/t"), top.join(name(number))).unwrap();
    }
}

fn make_and_remove(top: &Path) {
    let dir = top.join("w/many");
    fs::create_dir(&dir).unwrap();
    for number in 0..5000 {
        fs::write(dir.join(number.to_string()), b"small").unwrap();
    }
    fs::remove_dir_all(&dir).unwrap();
}

fn open_read(top: &Path) {
    for _ in 0..10 {
        for number in 0..2000 {
            assert!(!fs::read(top.join(name(number + 4000))).unwrap().is_empty());
        }
    }
}

#[test]
#[ignore = "figures, not a verdict"]
fn figures() {
    if !needs::root() {
        return;
    }
    let text = "fn line() { let value = 1; }\n".repeat(60);
    let things: BTreeMap<_, _> = (0..FILES)
        .map(|number| {
            let bytes = format!("{number}{text}").into_bytes();
            (bench::path(&name(number)), Thing::File(bytes, false))
        })
        .collect();
    let mut bench = Bench::of(MapBase::of(things), &["w"]);
    let real = tempfile::tempdir().unwrap();
    for number in 0..FILES {
        let at = real.path().join(name(number));
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, format!("{number}{text}")).unwrap();
    }
    let before = resident();
    let server = mount_with(&mut bench, false);
    println!(
        "first listing {:.1} ms",
        seconds(|| assert!(fs::read_dir(bench.mnt()).unwrap().count() > 0)) * 1e3
    );
    let works: [Work<'_>; 10] = [
        ("grep", FILES, &grep),
        ("find", FILES, &find),
        ("open+read+close", 20_000, &open_read),
        ("truncate+write 4 KiB", 2000, &rewrite),
        ("temp+rename 4 KiB", 1000, &save),
        ("append 100 B", 20_000, &append),
        ("sequential 1 MiB", 256, &sequential),
        ("random 4 KiB", 10_000, &random),
        ("make and remove", 5000, &make_and_remove),
        ("grep, after", FILES, &grep),
    ];
    let wanted = std::env::var("FIGURES").unwrap_or_default();
    for (what, units, work) in works {
        if !what.contains(&wanted) {
            continue;
        }
        for round in 0..ROUNDS {
            let theirs = seconds(|| work(real.path()));
            let ours = seconds(|| work(&bench.mnt()));
            let each = ours / units as f64 * 1e6;
            println!(
                "{what:24} round {round}: {:6.2} x, {each:8.2} us each",
                ours / theirs
            );
        }
    }
    println!("{}", server.stats());
    let nodes = server.overlay().numbers().nodes;
    println!(
        "{} KiB more than before, {nodes} nodes",
        resident() - before
    );
    server.stop().unwrap();
}

/// Anonymous memory of this process in KiB.
fn resident() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon"))
        .unwrap();
    line.split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

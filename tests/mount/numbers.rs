//! What a running server says of itself: how many requests came, and how long they took.

#![expect(clippy::unwrap_used, reason = "a test says what it found by failing")]

use std::fs;
use std::time::Duration;
use std::time::Instant;

use crate::common::world::World;
use serde_json::Value;

fn session(world: &World) -> Value {
    let status = world.ok(&["--json", "status", "-v"]);
    let begin = status.find('{').unwrap();
    let document: Value = serde_json::Deserializer::from_str(&status[begin..])
        .into_iter()
        .next()
        .unwrap()
        .unwrap();
    document["sessions"][0].clone()
}

#[test]
fn status_tells_counts_and_latencies_of_requests_and_entries() {
    let mut world = World::of("mkdir d; echo a > d/a");
    world.mount("alice", &["d"]);
    world.sh("echo x >> d/a; echo new > d/b; cat d/b");
    let session = session(&world);
    for (name, least) in [("write", 2), ("create", 1), ("lookup", 2), ("entries", 3)] {
        let count = session["stats"][name].as_u64().unwrap();
        assert!(count >= least, "{name}: {session}");
        let times = &session["latencies"][name];
        let of = |what: &str| times[what].as_u64().unwrap();
        assert!(of("mean_ns") > 0, "{name}: {times}");
        assert!(
            of("p50_ns") > 0 && of("p50_ns") <= of("p99_ns"),
            "{name}: {times}"
        );
    }
    assert_eq!(session["latencies"]["nodes"], Value::Null, "{session}");
    let screen = world.ok(&["status", "-v"]);
    let write = screen
        .lines()
        .find(|line| line.contains(" write "))
        .unwrap();
    for word in ["mean ", "p50 ", "p99 ", " µs"] {
        assert!(write.contains(word), "{screen}");
    }
}

#[test]
fn a_signal_has_the_server_log_the_same() {
    let mut world = World::of("mkdir d; echo a > d/a");
    world.mount("alice", &["d"]);
    world.sh("echo x >> d/a");
    let log = world.repo().join(".git/govfs/sessions/alice-1/server.log");
    world.signal(nix::sys::signal::Signal::SIGUSR1);
    let begin = Instant::now();
    loop {
        let text = fs::read_to_string(&log).unwrap();
        if text.contains("requests so far") && text.contains("write 1 mean_ns ") {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{text}");
        std::thread::yield_now();
    }
}

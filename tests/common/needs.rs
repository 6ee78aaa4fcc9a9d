//! What a test needs of the machine, and the one answer to a lack: the test fails and names it.
//!
//! Only what an ordinary user may not do at all is left to root; `scripts/test` says so.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part"
)]

use std::fs::OpenOptions;
use std::process::Command;

/// Fails where nothing can be mounted.
pub fn device() {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    if let Err(error) = device {
        panic!("this test mounts, and /dev/fuse cannot be opened: {error}");
    }
}

/// Says whether root runs the tests; where it does, there is a device.
pub fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if root {
        device();
    }
    root
}

/// Says whether a program is there that the test has another word for.
pub fn has(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output();
    found.is_ok_and(|output| output.status.success())
}

/// Fails where a program is missing that `scripts/test` installs.
pub fn program(name: &str) {
    assert!(
        has(name),
        "this test needs {name}; scripts/test installs it"
    );
}

//! A real mount over the stand-ins, and scripts run inside as somebody who is not root.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part; a test says what it found by failing"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::process::Output;

use govfs::vfs::server::{Mounting, ServeOptions, Server, serve};

use crate::common::bench::Bench;

/// Nobody in particular: a client that is not root, so that modes count.
pub const NOBODY: u32 = 65534;

pub fn mount(bench: &mut Bench) -> Server {
    mount_with(bench, true)
}

pub fn mount_with(bench: &mut Bench, xattrs: bool) -> Server {
    bench.uid = NOBODY;
    fs::set_permissions(bench.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let options = ServeOptions {
        allow_other: true,
        xattrs,
        now: std::time::SystemTime::now,
    };
    serve(Mounting::At(bench.mnt()), bench.open(), options).unwrap()
}

pub fn sh(bench: &Bench, script: &str) -> Output {
    Command::new("bash")
        .args(["-c", script])
        .current_dir(bench.mnt())
        .env("HOME", "/nonexistent")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap()
}

/// Runs a script that must succeed and returns what it printed.
pub fn out(bench: &Bench, script: &str) -> String {
    let output = sh(bench, script);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {text}{errors}");
    text
}

/// Runs a script that must fail and returns what it complained of.
pub fn refused(bench: &Bench, script: &str) -> String {
    let output = sh(bench, script);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{script} was not refused");
    errors
}

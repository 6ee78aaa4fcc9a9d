//! The one clock. Everything else is handed a [`Now`].
//!
//! Owns: wall time, boot time, the name of this boot, and which process is which: what
//! the kernel alone knows about when. Never decides what is due.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use crate::domain::time::{Now, Timestamp};
use crate::store::ledger::Process;

/// Reads the wall clock, the boot clock and the boot id.
pub fn now() -> Now {
    Now {
        ts: wall(),
        boot: boot_id(),
        boot_ms: boot_ms(),
    }
}

/// Reads the wall clock alone.
pub fn wall() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// Milliseconds since boot, sleep included: no setting of the wall clock moves it.
pub fn boot_ms() -> u64 {
    // CLOCK_BOOTTIME exists on every kernel that has FUSE in namespaces; without
    // it leases run on timestamps, as they do after a reboot.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
        seconds * 1000 + nanos / 1_000_000
    })
}

/// The kernel's name for this boot.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// Names this process, so that a later one with the same number is not taken for it.
pub fn this_process() -> Process {
    let pid = std::process::id();
    Process {
        pid,
        start: start_of(pid).unwrap_or(0),
        boot: boot_id(),
    }
}

/// Says whether `process` still runs.
pub fn is_alive(process: &Process) -> bool {
    process.boot == boot_id() && start_of(process.pid) == Some(process.start)
}

/// Returns when a process started, in ticks since boot; `None` where it is gone.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; fields are counted after it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if fields.first() == Some(&"Z") {
        return None;
    }
    fields.get(19)?.parse().ok()
}

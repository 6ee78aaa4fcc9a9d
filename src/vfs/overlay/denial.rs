//! Refusals: seen, put on record, and not repeated without end.
//!
//! Owns: who asked (pid, executable, start time, looked up once a process), the
//! record of a refusal before it is answered, the count of repeats within ten
//! seconds, and reading from `/proc/PID/syscall` what a caller that the kernel is
//! about to refuse was doing. All of it is evidence, never authority.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Mutex;

use crate::domain::gate::Denial;
use crate::domain::gate::Refusal;
use crate::domain::gate::Tried;
use crate::domain::logop::Actor;
use crate::domain::logop::Bytes;
use crate::domain::path::RepoPath;
use crate::vfs::error::Error;
use crate::vfs::overlay::Caller;
use crate::vfs::overlay::Overlay;

/// Repeats of one refusal within this time become one later entry.
const REPEAT: Duration = Duration::from_secs(10);
const PENDING_MAX: usize = 4096;
const PROCESSES_MAX: usize = 4096;

type Key = (u32, Tried, RepoPath, &'static str);

#[derive(Debug, Default)]
pub(super) struct Coalescer {
    seen: HashMap<Key, (Instant, Denial)>,
}

impl Coalescer {
    /// Says whether this refusal is to be recorded now; a repeat is counted instead.
    fn is_first(&mut self, denial: &Denial, now: Instant) -> bool {
        let key = (
            denial.by.pid,
            denial.tried,
            denial.path.clone(),
            denial.refusal.rule,
        );
        if let Some((_, repeats)) = self.seen.get_mut(&key) {
            repeats.count += 1;
            return false;
        }
        let mut repeats = denial.clone();
        repeats.count = 0;
        self.seen.insert(key, (now, repeats));
        true
    }

    /// Takes out what has been seen for long enough, with its repeats.
    fn due(&mut self, now: Instant, all: bool) -> Vec<Denial> {
        let old = |since: &Instant| all || now.duration_since(*since) >= REPEAT;
        let mut due = Vec::new();
        self.seen.retain(|_, (since, denial)| {
            let done = old(since);
            if done && denial.count > 0 {
                due.push(denial.clone());
            }
            !done
        });
        due
    }
}

#[derive(Debug, Default)]
pub(super) struct Actors {
    known: Mutex<HashSet<u32>>,
}

impl Actors {
    /// Returns who a pid is: in full the first time it is asked about.
    pub(super) fn brief(&self, pid: u32) -> Actor {
        {
            let mut known = self.known.lock();
            if pid == 0 || known.contains(&pid) {
                return Actor {
                    pid,
                    ..Actor::default()
                };
            }
            if known.len() >= PROCESSES_MAX {
                known.clear();
            }
            known.insert(pid);
        }
        Self::full(pid)
    }

    pub(super) fn full(pid: u32) -> Actor {
        if pid == 0 {
            return Actor::default();
        }
        let exe = fs::read_link(format!("/proc/{pid}/exe")).ok();
        Actor {
            pid,
            exe: exe.map(|exe| Bytes(exe.as_os_str().as_bytes().to_vec())),
            start: start_time(pid),
        }
    }
}

/// Returns when a process began, in clock ticks after boot.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.iter().rposition(|&b| b == b')')?;
    let text = std::str::from_utf8(&stat[after_name + 1..]).ok()?;
    text.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// What a blocked caller is doing to the file whose attributes were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// It opens the file for writing, with a call whose flags can be read.
    OpensToWrite,
    /// It will be refused, and first-write does not apply.
    Tries(Tried),
    /// It only looks.
    Looks,
    Unreadable,
}

pub(super) fn doing(pid: u32) -> Doing {
    match fs::read_to_string(format!("/proc/{pid}/syscall")) {
        Ok(line) => parse_syscall(&line),
        Err(_) => Doing::Unreadable,
    }
}

fn parse_syscall(line: &str) -> Doing {
    let mut words = line.split_ascii_whitespace();
    let Some(number) = words.next().and_then(|word| word.parse::<i64>().ok()) else {
        return Doing::Unreadable; // "running": not inside a call that waits for us
    };
    let mut arguments = [0_u64; 6];
    for (slot, word) in arguments.iter_mut().zip(words) {
        let hex = word.trim_start_matches("0x");
        *slot = u64::from_str_radix(hex, 16).unwrap_or(0);
    }
    let by_flags = |flags: u64| {
        let writes = flags & 3 != 0 || flags & libc::O_TRUNC as u64 != 0;
        if writes {
            Doing::OpensToWrite
        } else {
            Doing::Looks
        }
    };
    let by_mode = |mode: u64| {
        if mode & 2 != 0 {
            Doing::Tries(Tried::Access)
        } else {
            Doing::Looks
        }
    };
    match number {
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => by_flags(arguments[1]),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_creat => Doing::OpensToWrite,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_access => by_mode(arguments[1]),
        libc::SYS_openat => by_flags(arguments[2]),
        libc::SYS_openat2 => Doing::Tries(Tried::Open),
        libc::SYS_truncate => Doing::OpensToWrite,
        libc::SYS_faccessat | libc::SYS_faccessat2 => by_mode(arguments[2]),
        libc::SYS_setxattr | libc::SYS_lsetxattr | libc::SYS_fsetxattr => {
            Doing::Tries(Tried::Xattr)
        }
        libc::SYS_removexattr | libc::SYS_lremovexattr | libc::SYS_fremovexattr => {
            Doing::Tries(Tried::Xattr)
        }
        _ => Doing::Looks,
    }
}

impl Overlay {
    /// Puts a refusal on record and returns the error that answers it.
    pub(super) fn deny(
        &self,
        tried: Tried,
        path: &RepoPath,
        refusal: Refusal,
        caller: Caller,
    ) -> Error {
        let mut denial = Denial {
            path: path.clone(),
            tried,
            refusal,
            count: 1,
            by: Actor {
                pid: caller.pid,
                ..Actor::default()
            },
        };
        let (first, overdue) = {
            let mut denials = self.denials.lock();
            let now = Instant::now();
            let crowded = denials.seen.len() >= PENDING_MAX;
            let overdue = denials.due(now, crowded);
            (denials.is_first(&denial, now), overdue)
        };
        self.record_denials(&overdue);
        if first {
            denial.by = Actors::full(caller.pid);
            self.record_denials(&[denial]);
        }
        Error::Denied
    }

    /// Records the repeats of refusals that are old enough, or all of them.
    pub(super) fn flush_denials(&self, all: bool) {
        let due = self.denials.lock().due(Instant::now(), all);
        self.record_denials(&due);
    }

    fn record_denials(&self, denials: &[Denial]) {
        for denial in denials {
            if let Err(error) = self.gate.denied(denial) {
                // The answer stays a refusal; that it could not be recorded is said.
                tracing::error!(%error, path = %denial.path, "a refusal was not recorded");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn what_a_blocked_caller_does_is_read_from_its_system_call() {
        let table = [
            (
                "257 0xffffff9c 0x7f 0x80401 0x0 0x0 0x0 0x7f 0x7f",
                Doing::OpensToWrite,
            ),
            (
                "257 0xffffff9c 0x7f 0x80000 0x0 0x0 0x0 0x7f 0x7f",
                Doing::Looks,
            ),
            (
                "2 0x7f 0x241 0x1b6 0x0 0x0 0x0 0x7f 0x7f",
                Doing::OpensToWrite,
            ),
            (
                "21 0x7f 0x2 0x0 0x0 0x0 0x0 0x7f 0x7f",
                Doing::Tries(Tried::Access),
            ),
            ("21 0x7f 0x4 0x0 0x0 0x0 0x0 0x7f 0x7f", Doing::Looks),
            ("76 0x7f 0x0 0x0 0x0 0x0 0x0 0x7f 0x7f", Doing::OpensToWrite),
            ("262 0x7f 0x0 0x0 0x0 0x0 0x0 0x7f 0x7f", Doing::Looks),
            (
                "437 0x7f 0x0 0x0 0x0 0x0 0x0 0x7f 0x7f",
                Doing::Tries(Tried::Open),
            ),
            ("running", Doing::Unreadable),
        ];
        for (line, want) in table {
            assert_eq!(parse_syscall(line), want, "{line}");
        }
    }

    #[test]
    fn repeats_are_counted_and_come_once_later() {
        let mut seen = Coalescer::default();
        let denial = Denial {
            path: RepoPath::parse(b"a").unwrap(),
            tried: Tried::Write,
            refusal: Refusal::by_rule("not-claimed", ""),
            count: 1,
            by: Actor::default(),
        };
        let start = Instant::now();
        assert!(seen.is_first(&denial, start));
        assert!(!seen.is_first(&denial, start));
        assert!(!seen.is_first(&denial, start));
        assert_eq!(seen.due(start, false), []);
        let due = seen.due(start + REPEAT, false);
        assert_eq!(due.len(), 1);
        assert_eq!(due[0].count, 2);
        assert!(seen.is_first(&denial, start + REPEAT));
    }
}

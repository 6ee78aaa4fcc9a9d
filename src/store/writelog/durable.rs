//! Waiting until the entries of a log are on the disk, beside whoever appends.
//!
//! Owns: one wait for all who came before it began, and what a failed one means. The
//! kernel tells of bytes that it could not write once, to one of those who wait: the
//! next would be told that all is well. So after a failure the bytes that it can be
//! about are written once more before anybody is told anything.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// No entry is longer: what a failed append left behind and the next one wrote over lies within.
const ENTRY_MAX: u64 = 64 << 10;
const BUFFER: usize = 1 << 20;

/// A log's own file, to wait for.
#[derive(Debug)]
pub struct Durable<M = File> {
    file: M,
    /// How many waits have begun.
    begun: AtomicU64,
    ended: Mutex<Ended>,
}

#[derive(Debug, Default)]
struct Ended {
    /// The last wait that succeeded, by when it began.
    last: u64,
    /// How many bytes the log had then.
    safe: u64,
    /// A wait failed: what came after may be in memory alone.
    failed: bool,
}

/// What is waited for: a file; in tests, one that fails.
pub trait Wait {
    fn wait(&self) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    /// Writes these bytes again as they are.
    fn write_again(&self, from: u64, to: u64) -> io::Result<()>;
}

impl Wait for File {
    fn wait(&self) -> io::Result<()> {
        on_disk(self)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn write_again(&self, from: u64, to: u64) -> io::Result<()> {
        // The log's own descriptor writes at the end only.
        let name = format!("/proc/self/fd/{}", self.as_raw_fd());
        let target = OpenOptions::new().write(true).open(name)?;
        let mut buffer = vec![0; BUFFER];
        let mut at = from;
        while at < to {
            let rest = usize::try_from(to - at).unwrap_or(BUFFER).min(BUFFER);
            self.read_exact_at(&mut buffer[..rest], at)?;
            target.write_all_at(&buffer[..rest], at)?;
            at += rest as u64;
        }
        Ok(())
    }
}

/// Waits until what was written to a file is on the disk. A file system that shuts down meanwhile can say that all
/// is well though the last bytes were lost (ext4 does in one of some 25 shutdowns). It was down before it said so,
/// which the next write tells: an empty one, that costs a tenth of a microsecond.
pub(super) fn on_disk(file: &File) -> io::Result<()> {
    file.sync_data()?;
    rustix::io::write(file, &[])?;
    Ok(())
}

impl<M: Wait> Durable<M> {
    pub fn new(file: M) -> Self {
        Self {
            file,
            begun: AtomicU64::new(0),
            ended: Mutex::default(),
        }
    }

    /// Makes every entry durable that was appended before the call. While what `still` returns is held, nobody
    /// appends; it is asked for only after a failure.
    pub fn sync<G>(&self, still: impl FnOnce() -> G) -> io::Result<()> {
        let arrived = self.begun.load(Ordering::SeqCst);
        let mut ended = self.ended.lock();
        if ended.failed {
            let _still = still();
            let from = ended.safe.saturating_sub(ENTRY_MAX);
            self.file.write_again(from, self.file.len()?)?;
        } else if ended.last > arrived {
            return Ok(()); // somebody's wait began after this call, and has ended
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let len = self.file.len()?;
        ended.failed = true; // until it is known
        self.file.wait()?;
        *ended = Ended {
            last: number,
            safe: len,
            failed: false,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file whose waits fail as they are told to, and what was written again.
    #[derive(Default)]
    struct Fails {
        waits: AtomicU64,
        failing: Mutex<Vec<u64>>,
        again: Mutex<Vec<(u64, u64)>>,
        len: AtomicU64,
    }

    impl Wait for Fails {
        fn wait(&self) -> io::Result<()> {
            let number = self.waits.fetch_add(1, Ordering::SeqCst);
            if self.failing.lock().contains(&number) {
                return Err(io::Error::from_raw_os_error(5));
            }
            Ok(())
        }

        fn len(&self) -> io::Result<u64> {
            Ok(self.len.load(Ordering::SeqCst))
        }

        fn write_again(&self, from: u64, to: u64) -> io::Result<()> {
            self.again.lock().push((from, to));
            Ok(())
        }
    }

    #[test]
    fn what_may_be_lost_is_written_again_before_it_is_called_durable() {
        let durable = Durable::new(Fails::default());
        *durable.file.failing.lock() = vec![1, 2];
        let sync = |len: u64| {
            durable.file.len.store(len, Ordering::SeqCst);
            durable.sync(|| ()).map_err(|error| error.raw_os_error())
        };
        assert_eq!(sync(100_000), Ok(()));
        assert_eq!(sync(150_000), Err(Some(5)));
        assert_eq!(sync(160_000), Err(Some(5)));
        assert_eq!(sync(170_000), Ok(()));
        assert_eq!(sync(180_000), Ok(()));
        let from = 100_000 - ENTRY_MAX;
        let again = durable.file.again.lock().clone();
        assert_eq!(again, [(from, 160_000), (from, 170_000)]);
    }

    #[test]
    fn a_log_is_written_again_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .unwrap();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        io::Write::write_all(&mut file, &bytes).unwrap();
        file.write_again(7, bytes.len() as u64).unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes);
    }

    #[test]
    fn each_wait_begins_after_the_call_that_it_answers() {
        let durable = Durable::new(Fails::default());
        durable.sync(|| ()).unwrap();
        durable.sync(|| ()).unwrap();
        assert_eq!(
            durable.begun.load(Ordering::SeqCst),
            2,
            "nobody came between"
        );
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| durable.sync(|| ()).unwrap());
            }
        });
        assert!((3..=10).contains(&durable.begun.load(Ordering::SeqCst)));
    }
}

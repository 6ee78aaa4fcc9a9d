//! Waiting until the entries of a log are on the disk, beside whoever appends.
//!
//! Owns: one wait for all who came before it began, and what a failed one means. The
//! kernel tells of bytes that it could not write once, to one of those who wait: the
//! next would be told that all is well. So after a failure no wait succeeds any more.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

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
    failed: bool,
}

/// What is waited for: a file; in tests, one that fails.
pub trait Wait {
    fn wait(&self) -> io::Result<()>;
}

impl Wait for File {
    fn wait(&self) -> io::Result<()> {
        on_disk(self)
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

    /// Makes every entry durable that was appended before the call.
    pub fn sync(&self) -> io::Result<()> {
        let arrived = self.begun.load(Ordering::SeqCst);
        let mut ended = self.ended.lock();
        if ended.failed {
            return Err(io::Error::other("an earlier write to the log was lost"));
        }
        if ended.last > arrived {
            return Ok(()); // somebody's wait began after this call, and has ended
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        match self.file.wait() {
            Ok(()) => {
                ended.last = number;
                Ok(())
            }
            Err(error) => {
                ended.failed = true;
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fails(AtomicU64);

    impl Wait for Fails {
        fn wait(&self) -> io::Result<()> {
            // Told once, as the kernel does.
            match self.0.fetch_add(1, Ordering::SeqCst) {
                1 => Err(io::Error::from_raw_os_error(5)),
                _ => Ok(()),
            }
        }
    }

    #[test]
    fn what_was_lost_once_is_never_called_durable_again() {
        let durable = Durable::new(Fails(AtomicU64::new(0)));
        durable.sync().unwrap();
        assert_eq!(durable.sync().unwrap_err().raw_os_error(), Some(5));
        assert!(durable.sync().is_err() && durable.sync().is_err());
        assert_eq!(durable.file.0.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn each_wait_begins_after_the_call_that_it_answers() {
        let durable = Durable::new(Fails(AtomicU64::new(2)));
        durable.sync().unwrap();
        durable.sync().unwrap();
        assert_eq!(
            durable.begun.load(Ordering::SeqCst),
            2,
            "nobody came between"
        );
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| durable.sync().unwrap());
            }
        });
        assert!((3..=10).contains(&durable.begun.load(Ordering::SeqCst)));
    }
}

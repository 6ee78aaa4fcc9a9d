//! The write log on disk: one append-only file per session.
//!
//! Owns: appending (one `write(2)` an entry, whole or not at all), making it
//! durable, reading whole lines beside a live writer, and what happens to a torn
//! tail. The format and the chain are `domain::entry`'s.
//!
//! Invariants:
//! - The file is a prefix-closed chain of whole lines at every moment that an
//!   append returns. A write that failed is cut off again; if even that fails,
//!   nothing more is appended until the log is opened anew.
//! - Some room is set aside ahead of the end, so that a full disk can be emptied.
//! - Opening cuts at the first line that does not chain. Before the last seal
//!   that is an integrity fault and the file is left as it is; after it, a loss
//!   that the caller is told of.
//!
//! Never decides what is logged, and never locks: whoever opens a log for
//! writing holds its session's lock.

mod durable;
mod lines;
mod packed;
mod reserve;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io;
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::domain::digest::Digest;
use crate::domain::entry::{Broken, Chain, ChainFault, Encoder, Line, Seal};
use crate::domain::logop::LogOp;
use crate::domain::names::{AgentName, SessionId};
use crate::domain::proof::Tree;
use crate::domain::time::Timestamp;

pub use durable::Durable;
pub use lines::Lines;
pub use packed::{LogFile, LogLines, pack_log, read_log};
use reserve::Reserve;

/// How much of a lost tail is handed back.
const LOSS_KEPT: u64 = 64 << 10;
const READ_BUFFER: usize = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("write log {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("write log {}: entry {}, which is sealed: {}", path.display(), fault.seq, fault.broken)]
    Broken { path: PathBuf, fault: ChainFault },
    #[error("write log {}: {sealed} entries are sealed, {have} are there", path.display())]
    Short {
        path: PathBuf,
        sealed: u64,
        have: u64,
    },
    #[error("write log {}: its first {count} entries are not those that were sealed", path.display())]
    Seal { path: PathBuf, count: u64 },
}

/// What opening cut off the end of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The entry that the lost bytes began.
    pub entry: u64,
    /// How many bytes were cut.
    pub len: u64,
    /// The first 64 KiB of them.
    pub bytes: Vec<u8>,
    /// Why they do not chain; `None` where the line has no end.
    pub broken: Option<Broken>,
}

/// What a log is written to: a file; in tests, one that fills up.
pub trait Medium {
    /// Appends as much of `bytes` as one system call takes.
    fn put(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Cuts back to `len` bytes.
    fn cut(&mut self, len: u64) -> io::Result<()>;
    /// Makes what was put durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Has the disk keep room for `len` bytes from `from` on, without a change to see.
    fn set_aside(&mut self, _from: u64, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Medium for File {
    fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        durable::on_disk(self)
    }

    fn set_aside(&mut self, from: u64, len: u64) -> io::Result<()> {
        let unseen = rustix::fs::FallocateFlags::KEEP_SIZE;
        loop {
            match rustix::fs::fallocate(&*self, unseen, from, len) {
                Err(rustix::io::Errno::INTR) => {}
                done => return Ok(done?),
            }
        }
    }
}

/// One session's log, open for appending.
#[derive(Debug)]
pub struct WriteLog<M = File> {
    medium: M,
    encoder: Encoder,
    chain: Chain,
    tree: Tree,
    /// Bytes in whole lines.
    len: u64,
    /// Set when the file may not end where `len` says, or may not be durable.
    broken: bool,
    reserve: Reserve,
}

impl WriteLog {
    /// Makes an empty log, durably. `first` is the leaf of the ledger's `session` entry.
    pub fn create(
        path: &Path,
        agent: &AgentName,
        session: &SessionId,
        first: Digest,
    ) -> Result<Self, LogError> {
        let file = options()
            .create_new(true)
            .open(path)
            .and_then(|file| {
                file.sync_all()?;
                let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty());
                File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
                Ok(file)
            })
            .map_err(|source| io_error(path, source))?;
        Ok(Self::on(file, agent, session, first))
    }

    /// Opens a log and reads all of it: checks every line, hands each to `each`,
    /// and cuts a tail that does not chain. `sealed` is the ledger's last seal of
    /// it; what that covers must be there unchanged.
    pub fn open(
        path: &Path,
        agent: &AgentName,
        session: &SessionId,
        first: Digest,
        sealed: Option<&Seal>,
        each: &mut dyn FnMut(&Line<'_>),
    ) -> Result<(Self, Option<Loss>), LogError> {
        let file = options()
            .open(path)
            .map_err(|source| io_error(path, source))?;
        let mut log = Self::on(file, agent, session, first);
        let stop = log.replay(path, sealed, each)?;
        if let Some(sealed) = sealed.filter(|sealed| log.tree.size() < sealed.count) {
            return Err(match stop.broken {
                Some(broken) => LogError::Broken {
                    path: path.to_owned(),
                    fault: ChainFault {
                        seq: log.tree.size(),
                        broken,
                    },
                },
                None => LogError::Short {
                    path: path.to_owned(),
                    sealed: sealed.count,
                    have: log.tree.size(),
                },
            });
        }
        let loss = log
            .drop_tail(stop.broken)
            .map_err(|source| io_error(path, source))?;
        Ok((log, loss))
    }

    /// Follows the file's lines as far as they chain.
    fn replay(
        &mut self,
        path: &Path,
        sealed: Option<&Seal>,
        each: &mut dyn FnMut(&Line<'_>),
    ) -> Result<Stop, LogError> {
        let mut lines = Lines::new(BufReader::with_capacity(READ_BUFFER, &self.medium));
        loop {
            let count = self.tree.size();
            let here = sealed.filter(|sealed| sealed.count == count);
            if here.is_some_and(|sealed| *sealed != seal(&self.chain, &self.tree)) {
                return Err(LogError::Seal {
                    path: path.to_owned(),
                    count,
                });
            }
            let bytes = match lines.read() {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Ok(Stop { broken: None }),
                Err(source) => return Err(io_error(path, source)),
            };
            match self.chain.push(bytes) {
                Ok((line, leaf)) => {
                    self.tree.push(leaf);
                    self.len += bytes.len() as u64 + 1;
                    each(&line);
                }
                Err(ChainFault { broken, .. }) => {
                    return Ok(Stop {
                        broken: Some(broken),
                    });
                }
            }
        }
    }

    /// Cuts whatever comes after the last good line, durably.
    fn drop_tail(&mut self, broken: Option<Broken>) -> io::Result<Option<Loss>> {
        let end = self.medium.metadata()?.len();
        if end <= self.len {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let mut tail = self.medium.try_clone()?;
        io::Seek::seek(&mut tail, io::SeekFrom::Start(self.len))?;
        tail.take(LOSS_KEPT).read_to_end(&mut bytes)?;
        self.medium.set_len(self.len)?;
        self.medium.sync_all()?;
        Ok(Some(Loss {
            entry: self.chain.seq(),
            len: end - self.len,
            bytes,
            broken,
        }))
    }

    /// Returns another handle, through which a caller can `sync_data` without holding up appends.
    pub fn handle(&self) -> io::Result<File> {
        self.medium.try_clone()
    }
}

/// Where reading stopped: at the end, at a line without an end, or at a broken one.
struct Stop {
    broken: Option<Broken>,
}

impl<M: Medium> WriteLog<M> {
    /// Starts an empty log on `medium`.
    pub fn on(medium: M, agent: &AgentName, session: &SessionId, first: Digest) -> Self {
        Self {
            medium,
            encoder: Encoder::new(agent, session),
            chain: Chain::new(first),
            tree: Tree::new(),
            len: 0,
            broken: false,
            reserve: Reserve::default(),
        }
    }

    /// Appends one entry with one `write(2)` and returns its sequence number.
    /// `now` is what the clock says; the entry's time is later than the last one's.
    /// After an error the log is as it was before.
    pub fn append(&mut self, now: Timestamp, op: &LogOp) -> io::Result<u64> {
        if self.broken {
            return Err(io::Error::other(
                "the write log is damaged: it must be opened again",
            ));
        }
        self.reserve.admit(&mut self.medium, self.len, op)?;
        let seq = self.chain.seq();
        let ts = self.chain.stamp(now);
        let entry = self.encoder.encode(seq, &self.chain.prev(), ts, op);
        if let Err(error) = put_all(&mut self.medium, entry.text) {
            self.broken = self.medium.cut(self.len).is_err();
            self.reserve.gone();
            return Err(error);
        }
        self.len += entry.text.len() as u64;
        self.tree.push(entry.leaf);
        self.chain.advance(entry.leaf, ts);
        Ok(seq)
    }

    /// Makes every appended entry durable. After a failure nobody knows what is on
    /// the disk, so nothing more is appended.
    pub fn sync(&mut self) -> io::Result<()> {
        let done = self.medium.sync();
        self.broken |= done.is_err();
        done
    }

    /// Gives back the room that was set aside for more entries.
    pub fn release(&mut self) -> io::Result<()> {
        self.reserve.gone();
        if self.broken {
            return Ok(());
        }
        self.medium.cut(self.len)
    }

    /// Returns what a seal of all entries says; call [`WriteLog::sync`] before.
    pub fn seal(&self) -> Seal {
        seal(&self.chain, &self.tree)
    }

    /// Returns how many entries there are.
    pub fn count(&self) -> u64 {
        self.chain.seq()
    }

    /// Returns the last entry's time.
    pub fn ts(&self) -> Option<Timestamp> {
        self.chain.ts()
    }

    /// Returns the log's length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

fn seal(chain: &Chain, tree: &Tree) -> Seal {
    Seal {
        count: chain.seq(),
        head: chain.prev(),
        root: tree.root(),
    }
}

/// Writes with one call; where that was short, the rest still fits or its error says why not.
fn put_all<M: Medium>(medium: &mut M, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match medium.put(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .append(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW);
    options
}

fn io_error(path: &Path, source: io::Error) -> LogError {
    LogError::Io {
        path: path.to_owned(),
        source,
    }
}

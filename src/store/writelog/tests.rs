//! Write logs on disks that tear, fill up and fail.

use std::fs;
use std::io::Cursor;

use super::*;
use crate::domain::entry::{LEAF_PREFIX, decode};
use crate::domain::logop::{Actor, FileMode};
use crate::domain::path::RepoPath;
use crate::domain::proof;

const NOW: Timestamp = Timestamp(1_795_156_200_000_000_000);

fn names() -> (AgentName, SessionId) {
    ("alice".parse().unwrap(), "alice-1".parse().unwrap())
}

fn first() -> Digest {
    Digest::of(b"the session entry")
}

fn op(n: u64) -> LogOp {
    LogOp::Write {
        path: RepoPath::parse(format!("src/{n}.rs").as_bytes()).unwrap(),
        offset: n,
        len: 10,
        sha256: Digest::of(&n.to_be_bytes()),
        claim: 1,
        by: Actor::default(),
    }
}

fn create(path: &Path) -> WriteLog {
    let (agent, session) = names();
    WriteLog::create(path, &agent, &session, first()).unwrap()
}

fn open(path: &Path, sealed: Option<&Seal>) -> Result<(WriteLog, Option<Loss>), LogError> {
    let (agent, session) = names();
    WriteLog::open(path, &agent, &session, first(), sealed, &mut |_| {})
}

/// A log of `count` entries, and the seal after each number of them.
fn filled(path: &Path, count: u64) -> Vec<Seal> {
    let mut log = create(path);
    let mut seals = vec![log.seal()];
    for n in 0..count {
        assert_eq!(log.append(NOW, &op(n)).unwrap(), n);
        seals.push(log.seal());
    }
    log.sync().unwrap();
    seals
}

#[test]
fn a_seal_of_nothing_is_the_session_entry_and_the_empty_tree() {
    let dir = tempfile::tempdir().unwrap();
    let log = create(&dir.path().join("log"));
    let expected = Seal {
        count: 0,
        head: first(),
        root: Digest::of(b""),
    };
    assert_eq!(log.seal(), expected);
    assert!(log.is_empty());
    assert!(matches!(
        WriteLog::create(&dir.path().join("log"), &names().0, &names().1, first()),
        Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists
    ));
}

#[test]
fn a_log_is_opened_as_it_was_left_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let seals = filled(&path, 20);
    let (agent, session) = names();
    let mut seen = Vec::new();
    let (mut log, loss) = WriteLog::open(
        &path,
        &agent,
        &session,
        first(),
        Some(&seals[20]),
        &mut |line| seen.push(decode(line).unwrap()),
    )
    .unwrap();
    assert_eq!(loss, None);
    assert_eq!(seen, (0..20).map(op).collect::<Vec<_>>());
    assert_eq!(log.seal(), seals[20]);
    assert_eq!(log.ts(), Some(Timestamp(NOW.0 + 19)));
    log.append(NOW, &op(20)).unwrap();
    let text = fs::read(&path).unwrap();
    let leaves: Vec<Digest> = text
        .split_inclusive(|&b| b == b'\n')
        .map(|line| Digest::of_parts(&[LEAF_PREFIX, &line[..line.len() - 1]]))
        .collect();
    assert_eq!(log.seal().root, proof::root(&leaves));
    assert_eq!(log.seal().head, leaves[20]);
    assert_eq!(log.len(), text.len() as u64);
    for seal in &seals {
        assert!(open(&path, Some(seal)).is_ok(), "{seal:?}");
    }
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_after_the_last_seal_and_a_fault_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let seals = filled(&path, 4);
    let whole = fs::read(&path).unwrap();
    let ends: Vec<usize> = (0..whole.len()).filter(|&at| whole[at] == b'\n').collect();
    for len in (0..whole.len()).filter(|len| len % 5 == 0 || whole.len() - len < 20) {
        let complete = ends.iter().filter(|&&end| end < len).count();
        fs::write(&path, &whole[..len]).unwrap();
        let (log, loss) = open(&path, Some(&seals[complete])).unwrap();
        assert_eq!(log.seal(), seals[complete]);
        let start = complete.checked_sub(1).map_or(0, |last| ends[last] + 1);
        match loss {
            None => assert_eq!(len, start),
            Some(loss) => {
                assert_eq!((loss.entry, loss.broken), (complete as u64, None));
                assert_eq!(loss.bytes, &whole[start..len]);
            }
        }
        assert_eq!(fs::read(&path).unwrap(), &whole[..start]);
        fs::write(&path, &whole[..len]).unwrap();
        let fault = open(&path, Some(&seals[complete + 1])).unwrap_err();
        assert!(matches!(fault, LogError::Short { .. }), "{fault}");
        assert_eq!(fs::read(&path).unwrap(), &whole[..len], "left as it was");
    }
}

#[test]
fn a_changed_line_is_a_fault_where_it_is_sealed_and_a_loss_where_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let seals = filled(&path, 6);
    let whole = fs::read(&path).unwrap();
    let start: Vec<usize> = std::iter::once(0)
        .chain(
            (0..whole.len())
                .filter(|&at| whole[at] == b'\n')
                .map(|at| at + 1),
        )
        .collect();
    for (line, at) in [(0, 3), (2, 30), (4, 200), (5, 260)] {
        let mut bytes = whole.clone();
        bytes[start[line] + at] ^= 1;
        for (sealed, seal) in seals.iter().enumerate() {
            fs::write(&path, &bytes).unwrap();
            match open(&path, Some(seal)) {
                Ok((log, loss)) => {
                    // A change that is still a line shows in the next one; the last is not covered.
                    assert!(line >= sealed, "line {line} sealed {sealed}");
                    assert!(log.count() >= line as u64 && log.count() < 7);
                    assert!(loss.is_some() || line == 5);
                }
                Err(LogError::Io { source, .. }) => panic!("{source}"),
                Err(_) => assert!(line < sealed, "line {line} sealed {sealed}"),
            }
        }
    }
    // Zeros after a power loss.
    fs::write(&path, [&whole[..], &[0; 4096]].concat()).unwrap();
    let (log, loss) = open(&path, Some(&seals[6])).unwrap();
    assert_eq!((log.count(), loss.map(|loss| loss.len)), (6, Some(4096)));
    // A log of another session.
    let (agent, session) = names();
    let other = WriteLog::open(
        &path,
        &agent,
        &session,
        Digest::ZERO,
        Some(&seals[1]),
        &mut |_| {},
    );
    assert!(matches!(other, Err(LogError::Broken { fault, .. }) if fault.seq == 0));
}

#[test]
fn whole_lines_are_read_beside_a_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = create(&path);
    let mut lines = Lines::new(BufReader::new(File::open(&path).unwrap()));
    assert!(lines.read().unwrap().is_none());
    let mut raw = OpenOptions::new().append(true).open(&path).unwrap();
    for n in 0..5 {
        log.append(NOW, &op(n)).unwrap();
        lines.again().unwrap();
        assert!(lines.read().unwrap().is_some());
        assert!(lines.read().unwrap().is_none());
        raw.write_all(b"{\"v\":1,").unwrap();
        lines.again().unwrap();
        assert!(lines.read().unwrap().is_none());
        assert_eq!(lines.rest(), b"{\"v\":1,");
        raw.set_len(log.len()).unwrap();
        assert_eq!(lines.offset(), log.len());
    }
}

/// A disk of `room` bytes that takes at most `bite` at a time.
#[derive(Debug, Default)]
struct Small {
    bytes: Vec<u8>,
    room: usize,
    bite: usize,
    calls: usize,
    stuck: bool,
}

impl Medium for Small {
    fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.calls += 1;
        let take = bytes.len().min(self.bite).min(self.room - self.bytes.len());
        if take == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(&bytes[..take]);
        Ok(take)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        if self.stuck {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        self.bytes.truncate(usize::try_from(len).unwrap());
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.stuck {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(())
    }
}

fn small(room: usize, bite: usize) -> WriteLog<Small> {
    let (agent, session) = names();
    let medium = Small {
        room,
        bite,
        ..Small::default()
    };
    WriteLog::on(medium, &agent, &session, first())
}

fn chains(bytes: &[u8]) -> u64 {
    let mut lines = Lines::new(Cursor::new(bytes));
    let mut chain = Chain::new(first());
    while let Some(line) = lines.read().unwrap() {
        chain.push(line).unwrap();
    }
    assert!(lines.rest().is_empty());
    chain.seq()
}

#[test]
fn an_entry_is_one_write() {
    let mut log = small(usize::MAX, usize::MAX);
    for n in 0..10 {
        log.append(NOW, &op(n)).unwrap();
    }
    assert_eq!(log.medium.calls, 10);
}

#[test]
fn a_full_disk_leaves_whole_lines_and_the_log_usable() {
    for (room, bite) in [(1000, usize::MAX), (1000, 7), (1100, 300), (10, 10)] {
        let mut log = small(room, bite);
        let mut fitted = 0;
        let error = loop {
            match log.append(NOW, &op(fitted)) {
                Ok(_) => fitted += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(chains(&log.medium.bytes), fitted);
        assert_eq!(log.count(), fitted);
        let before = log.seal();
        log.medium.room = usize::MAX;
        assert_eq!(log.append(NOW, &op(fitted)).unwrap(), fitted);
        assert_eq!(chains(&log.medium.bytes), fitted + 1);
        assert_ne!(log.seal(), before);
    }
}

#[test]
fn a_log_that_cannot_be_cut_back_or_synced_takes_nothing_more() {
    let mut log = small(500, usize::MAX);
    log.append(NOW, &op(0)).unwrap();
    log.medium.stuck = true;
    assert!(log.append(NOW, &op(1)).is_err());
    log.medium.room = usize::MAX;
    log.medium.stuck = false;
    assert!(log.append(NOW, &op(1)).is_err());
    assert_eq!(log.count(), 1);

    let mut log = small(usize::MAX, usize::MAX);
    log.medium.stuck = true;
    assert!(log.sync().is_err());
    assert!(log.append(NOW, &op(0)).is_err());
}

#[test]
fn a_real_full_disk_says_so() {
    let (agent, session) = names();
    let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
    let mut log = WriteLog::on(full, &agent, &session, first());
    let error = log.append(NOW, &op(0)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(log.count(), 0);
}

#[test]
fn long_lines_are_no_lines() {
    let endless = io::BufReader::new(io::repeat(b'x'));
    let error = Lines::new(endless).read().map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn every_operation_can_be_appended() {
    let mut log = small(usize::MAX, usize::MAX);
    let path = RepoPath::parse(b"a").unwrap();
    let version = LogOp::Version {
        path,
        size: 1,
        mode: FileMode::Exec,
        sha256: Digest::ZERO,
    };
    log.append(NOW, &version).unwrap();
    let line = log.medium.bytes.strip_suffix(b"\n").unwrap();
    assert_eq!(decode(&Line::parse(line).unwrap()), Ok(version));
}

/// A medium on a disk that runs out of room.
#[derive(Debug, Default)]
struct Disk {
    bytes: u64,
    /// What is left on the disk for whoever comes first.
    free: u64,
    aside: u64,
}

impl Medium for Disk {
    fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len() as u64;
        if len > self.aside {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.aside -= len;
        self.bytes += len;
        Ok(bytes.len())
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.free += self.aside + self.bytes - len;
        (self.bytes, self.aside) = (len, 0);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn set_aside(&mut self, from: u64, len: u64) -> io::Result<()> {
        assert_eq!(from, self.bytes);
        let more = len - self.aside;
        if more > self.free {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        self.free -= more;
        self.aside += more;
        Ok(())
    }
}

#[test]
fn a_full_disk_can_be_emptied_again() {
    let (agent, session) = names();
    let free = 3 * reserve::RESERVE;
    let disk = Disk {
        free,
        ..Disk::default()
    };
    let mut log = WriteLog::on(disk, &agent, &session, first());
    let mut count = 0;
    let refused = loop {
        match log.append(NOW, &op(count)) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.raw_os_error(), Some(libc::ENOSPC));
    let unlink = LogOp::Unlink {
        path: RepoPath::parse(b"src/0.rs").unwrap(),
        claim: 1,
        by: Actor::default(),
    };
    for _ in 0..1000 {
        log.append(NOW, &unlink).unwrap();
        assert!(log.append(NOW, &op(0)).is_err());
    }
    log.medium.free += 2 * reserve::RESERVE;
    log.append(NOW, &op(0)).unwrap();
    log.release().unwrap();
    assert_eq!(log.medium.bytes, log.len());
    assert_eq!(log.medium.aside, 0);
}

#[test]
fn room_is_set_aside_unseen_and_given_back() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = create(&path);
    log.append(NOW, &op(0)).unwrap();
    let full = fs::metadata(&path).unwrap();
    assert_eq!(full.len(), log.len());
    log.release().unwrap();
    let bare = fs::metadata(&path).unwrap();
    assert_eq!(bare.len(), log.len());
    assert!(bare.blocks() <= full.blocks());
    assert!(bare.blocks() * 512 <= 8192, "{} blocks", bare.blocks());
}

//! Write logs of sessions that are over, compressed: the hashed lines stay what they were.
//!
//! Owns: `log.jsonl.gz` beside where `log.jsonl` was, and reading whichever is there.
//! Invariants: the plain file goes only after the packed one has been read back,
//! found to be the same bytes, and made durable; where both are there, the plain one
//! counts. Never packs a log that somebody may still append to: whoever calls holds
//! the session's lock.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::lines::Lines;
use crate::domain::digest::{Digest, Hasher};

const BUFFER: usize = 1 << 17;
const BUFFER_MIN: usize = 1 << 12;

/// A write log opened for reading, packed or not.
#[derive(Debug)]
pub enum LogFile {
    Plain(File),
    Packed(Box<GzDecoder<BufReader<File>>>),
}

impl Read for LogFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(into),
            Self::Packed(file) => file.read(into),
        }
    }
}

impl Seek for LogFile {
    /// A packed log is closed: whoever looks for more stays where it is.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::Plain(file) => file.seek(to),
            Self::Packed(_) => Ok(0),
        }
    }
}

impl LogFile {
    /// Goes past the first `bytes` of the log, as they were when it was plain.
    pub fn skip(&mut self, bytes: u64) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.seek(SeekFrom::Start(bytes)).map(drop),
            Self::Packed(file) => io::copy(&mut file.take(bytes), &mut io::sink()).map(drop),
        }
    }
}

/// The whole lines of a write log, from its first.
pub type LogLines = Lines<BufReader<LogFile>>;

/// Opens the write log at `path`, or what it was packed into, to be read line by line.
pub fn read_log(path: &Path) -> io::Result<LogLines> {
    let file = open_log(path)?;
    // A buffer is filled with zeros first, so that of a short log is short.
    let size = match &file {
        LogFile::Plain(file) => usize::try_from(file.metadata()?.len()).unwrap_or(BUFFER),
        LogFile::Packed(_) => BUFFER,
    };
    let size = size.clamp(BUFFER_MIN, BUFFER);
    Ok(Lines::new(BufReader::with_capacity(size, file)))
}

/// Opens the write log at `path`, or what it was packed into.
fn open_log(path: &Path) -> io::Result<LogFile> {
    match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = BufReader::with_capacity(BUFFER, open(&packed(path))?);
            Ok(LogFile::Packed(Box::new(GzDecoder::new(file))))
        }
        plain => plain.map(LogFile::Plain),
    }
}

/// Compresses the write log at `path`, and returns how many bytes that freed.
pub fn pack_log(path: &Path) -> io::Result<u64> {
    let plain = open(path)?;
    let before = plain.metadata()?.len();
    let fresh = with_suffix(path, ".gz.new");
    let sha256 = write_packed(plain, &fresh)?;
    let mut back = GzDecoder::new(BufReader::with_capacity(BUFFER, open(&fresh)?));
    let mut hasher = Hasher::default();
    copy_hashed(&mut back, &mut io::sink(), &mut hasher)?;
    if hasher.finish() != sha256 {
        fs::remove_file(&fresh)?;
        return Err(io::Error::other(
            "the packed log does not read back the same",
        ));
    }
    fs::rename(&fresh, packed(path))?;
    sync_parent(path)?;
    let after = fs::metadata(packed(path))?.len();
    fs::remove_file(path)?;
    sync_parent(path)?;
    Ok(before.saturating_sub(after))
}

fn write_packed(plain: File, fresh: &Path) -> io::Result<Digest> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW);
    let mut target = GzEncoder::new(
        BufWriter::with_capacity(BUFFER, options.open(fresh)?),
        Compression::default(),
    );
    let mut hasher = Hasher::default();
    copy_hashed(&mut BufReader::new(plain), &mut target, &mut hasher)?;
    let file = target
        .finish()?
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(hasher.finish())
}

fn copy_hashed(
    source: &mut impl Read,
    target: &mut impl Write,
    hasher: &mut Hasher,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(()),
            count => {
                hasher.update(&buffer[..count]);
                target.write_all(&buffer[..count])?;
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW);
    options.open(path)
}

fn packed(path: &Path) -> PathBuf {
    with_suffix(path, ".gz")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> Vec<u8> {
        let mut bytes = Vec::new();
        open_log(path).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_packed_log_reads_as_it_did() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let lines = "{\"v\":1,\"seq\":0}\n".repeat(5000);
        fs::write(&path, &lines).unwrap();
        assert_eq!(text(&path), lines.as_bytes());
        let after = |bytes: u64| {
            let (mut file, mut rest) = (open_log(&path).unwrap(), Vec::new());
            file.skip(bytes).unwrap();
            file.read_to_end(&mut rest).unwrap();
            rest
        };
        assert_eq!(after(16), &lines.as_bytes()[16..]);
        let freed = pack_log(&path).unwrap();
        assert!(freed > lines.len() as u64 / 2 && !path.exists());
        assert_eq!(after(32), &lines.as_bytes()[32..]);
        assert_eq!(after(1 << 20), b"");
        assert_eq!(text(&path), lines.as_bytes());
        // What a crash between the two steps leaves: the plain one counts.
        fs::write(&path, "newer\n").unwrap();
        assert_eq!(text(&path), b"newer\n");
        assert_eq!(
            open_log(&dir.path().join("none")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}

//! Whole lines of a log, streamed; whatever a live writer has not finished is not there yet.

use std::io;
use std::io::{BufRead, Read, Seek, SeekFrom};

use super::packed::LogLines;
use crate::domain::entry::LINE_MAX;

/// A reader of whole lines.
#[derive(Debug)]
pub struct Lines<R> {
    source: R,
    line: Vec<u8>,
    /// The bytes of all whole lines read so far.
    offset: u64,
    whole: bool,
}

impl<R: BufRead> Lines<R> {
    pub fn new(source: R) -> Self {
        Self {
            source,
            line: Vec::new(),
            offset: 0,
            whole: false,
        }
    }

    /// Returns the next line without its newline; `None` after the last whole one.
    pub fn read(&mut self) -> io::Result<Option<&[u8]>> {
        if self.whole {
            self.line.clear();
            self.whole = false;
        }
        let room = (LINE_MAX + 1).saturating_sub(self.line.len());
        Read::take(&mut self.source, room as u64).read_until(b'\n', &mut self.line)?;
        match self.line.split_last() {
            Some((b'\n', line)) => {
                self.whole = true;
                self.offset += self.line.len() as u64;
                Ok(Some(line))
            }
            _ if self.line.len() > LINE_MAX => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a line that does not end",
            )),
            _ => Ok(None),
        }
    }

    /// Returns where the last whole line ended.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns what follows the last whole line, after `read` gave `None`.
    pub fn rest(&self) -> &[u8] {
        if self.whole { &[] } else { &self.line }
    }
}

impl LogLines {
    /// Goes past the first `bytes` of the log, as they were when it was plain: where a line began.
    pub fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.offset += bytes;
        self.source.get_mut().skip(bytes)
    }
}

impl<R: BufRead + Seek> Lines<R> {
    /// Forgets an unfinished line, so that `read` finds what was appended since.
    pub fn again(&mut self) -> io::Result<()> {
        self.line.clear();
        self.whole = false;
        self.source.seek(SeekFrom::Start(self.offset)).map(|_| ())
    }
}

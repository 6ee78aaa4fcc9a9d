//! `log --follow`: what is there, then what is appended, live sessions included.
//!
//! Owns: looking again. Nothing is printed twice and nothing is left out; lines
//! that were appended between two looks stand in the order of their times. Ends
//! when nobody reads any more.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Filter, Row, Stream};
use crate::app::failure::Failure;
use crate::app::site::Site;

/// How often the logs are looked at.
const LOOK_MS: u16 = 100;

/// Hands out what the filter keeps, and goes on with what is appended until
/// `each` says false or `out` has no reader.
pub fn follow(
    site: &mut Site,
    filter: &Filter,
    out: BorrowedFd<'_>,
    each: &mut dyn FnMut(&Row) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut pulse = site.ledger.pulse()?;
    let mut stream = Stream::open(site, filter)?;
    stream.read(site, filter, each)?;
    while wait(out)? {
        let beat = site.ledger.pulse()?;
        if beat != pulse || stream.has_unread_logs(site)? {
            pulse = beat;
            stream.find_sources(site, filter)?;
        }
        stream.look_again()?;
        if !stream.merged(site, filter, each)? {
            break;
        }
    }
    Ok(())
}

impl Stream {
    /// Finds what was appended since the last look.
    fn look_again(&mut self) -> Result<(), Failure> {
        for source in &mut self.sources {
            if source.next.is_none() {
                source.lines.again().map_err(Failure::failed)?;
                source.advance()?;
            }
        }
        Ok(())
    }

    /// A session's log appears only after the entry that begins the session.
    fn has_unread_logs(&self, site: &Site) -> Result<bool, Failure> {
        let dir = site.store.join(crate::app::session::SESSIONS);
        let names = match std::fs::read_dir(dir) {
            Ok(names) => names,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Failure::failed(error)),
        };
        Ok(names.count() > self.sources.len())
    }
}

/// Waits for the next look; false where nobody reads any more.
fn wait(out: BorrowedFd<'_>) -> Result<bool, Failure> {
    let mut reader = [PollFd::new(out, PollFlags::empty())];
    match poll(&mut reader, PollTimeout::from(LOOK_MS)) {
        Ok(0) | Err(Errno::EINTR) => Ok(true),
        Ok(_) => Ok(false),
        Err(errno) => Err(Failure::failed(errno)),
    }
}

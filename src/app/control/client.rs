//! The client's end: a connection to a live server, with its time limits.
//!
//! Owns: asking, also before the answer is needed, and joining a sealed mount in one
//! question. A server that is gone is nobody; one that is silent is an error.

use std::io;
use std::io::BufReader;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;

use super::{Answer, Ask, Entered, FORMAT, Hello, NAMES, receive, send, short_path};
use crate::domain::names::AgentName;
use crate::sandbox::pass;

/// How long a server may take to say who it is.
const HELLO: Duration = Duration::from_secs(5);

/// A connection to a live server.
#[derive(Debug)]
pub struct Live {
    stream: BufReader<UnixStream>,
    /// Questions that were begun and whose answers nobody has taken.
    owed: usize,
    pub hello: Hello,
}

impl Live {
    /// Returns the user whose process the server is.
    pub fn owner(&self) -> io::Result<u32> {
        Ok(getsockopt(self.stream.get_ref(), PeerCredentials)?.uid())
    }

    /// Connects to the server of the session kept in `dir`; `None` when none lives.
    pub fn connect(dir: &Path) -> io::Result<Option<Self>> {
        let Some(mut live) = Self::reach(dir)? else {
            return Ok(None);
        };
        match live.ask(&Ask::Hello, HELLO) {
            Ok(Answer::Hello(hello)) => live.hello = hello,
            Ok(other) => return Err(unexpected(&other)),
            Err(error) if gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
        Ok(Some(live))
    }

    /// Connects and takes a hold on the session's sealed mount, in one question. Returns the descriptors of its
    /// anchor; a mount that stands on the host has none, and is not held yet. `None` also where the mount is ending.
    pub fn join(dir: &Path) -> io::Result<Option<(Self, Option<Vec<OwnedFd>>)>> {
        let Some((mut live, answer, descriptors)) = Self::hold(dir, &Ask::Join, || {})? else {
            return Ok(None);
        };
        let (hello, descriptors) = match answer {
            Answer::Joined(hello) => (hello, Some(descriptors)),
            Answer::Hello(hello) => (hello, None),
            Answer::Failed { .. } => return Ok(None),
            other => return Err(unexpected(&other)),
        };
        live.hello = hello;
        Ok(Some((live, descriptors)))
    }

    /// Connects to the server that the agent's name leads to, and takes a hold on its sealed mount; the caller's own
    /// work is done before the answer is waited for. `None` where there is more to do for the agent than to join.
    pub fn enter(
        store: &Path,
        agent: &AgentName,
        meanwhile: impl FnOnce(),
    ) -> io::Result<Option<(Self, Entered, Vec<OwnedFd>)>> {
        let ask = Ask::Enter {
            agent: agent.clone(),
        };
        match Self::hold(&store.join(NAMES).join(agent.as_str()), &ask, meanwhile) {
            Ok(Some((mut live, Answer::Entered(entered), descriptors)))
                if entered.hello.format == FORMAT =>
            {
                live.hello = entered.hello.clone();
                Ok(Some((live, *entered, descriptors)))
            }
            Ok(_) => Ok(None),
            // Its ledger is busy, or it is another govfs's: whoever looks at that itself waits, or says so.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::InvalidData
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Connects and asks what is answered with descriptors.
    fn hold(
        dir: &Path,
        ask: &Ask,
        meanwhile: impl FnOnce(),
    ) -> io::Result<Option<(Self, Answer, Vec<OwnedFd>)>> {
        let Some(mut live) = Self::reach(dir)? else {
            return Ok(None);
        };
        // Nothing is read ahead of the line that the descriptors come with.
        let answer = live.begin(ask, HELLO).and_then(|()| {
            live.owed = 0;
            meanwhile();
            pass::receive(live.stream.get_ref())
        });
        match answer {
            Err(error) if gone(&error) => Ok(None),
            received => {
                let (line, descriptors) = received?;
                Ok(Some((live, serde_json::from_slice(&line)?, descriptors)))
            }
        }
    }

    fn reach(dir: &Path) -> io::Result<Option<Self>> {
        let Some(place) = short_path(dir)? else {
            return Ok(None);
        };
        let stream = match UnixStream::connect(&place.path) {
            Ok(stream) => stream,
            Err(error) if gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(Self {
            stream: BufReader::new(stream),
            owed: 0,
            hello: Hello::unknown(),
        }))
    }

    /// Asks a question whose answer [`Live::answer`] takes later.
    pub fn begin(&mut self, ask: &Ask, limit: Duration) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        send(stream, ask)?;
        self.owed += 1;
        Ok(())
    }

    /// Takes the answer to the question that was begun.
    pub fn answer(&mut self) -> io::Result<Answer> {
        self.owed = self.owed.saturating_sub(1);
        receive(&mut self.stream).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, error),
            _ => error,
        })
    }

    /// Asks one question; a server silent for `limit` is an error of kind `TimedOut`.
    pub fn ask(&mut self, ask: &Ask, limit: Duration) -> io::Result<Answer> {
        self.begin(ask, limit)?;
        while self.owed > 1 {
            self.answer()?; // of a question that was given up
        }
        self.answer()
    }
}

impl Live {
    /// Waits until the server has closed the connection, which it does by ending.
    pub fn wait_for_end(mut self, limit: Duration) -> io::Result<()> {
        self.stream.get_mut().set_read_timeout(Some(limit))?;
        loop {
            return match self.stream.read(&mut [0]) {
                Ok(0) => Ok(()),
                Ok(_) => Err(io::Error::other("the server said something unasked")),
                Err(error) if gone(&error) => Ok(()),
                // With a time limit the kernel does not go on by itself after a signal.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }
}

/// Returns the process that listens for the session kept in `dir`, by the kernel's word.
pub fn server_pid(dir: &Path) -> Option<i32> {
    let place = short_path(dir).ok()??;
    let stream = UnixStream::connect(&place.path).ok()?;
    let peer = getsockopt(&stream, PeerCredentials).ok()?;
    Some(peer.pid()).filter(|pid| *pid > 0)
}

fn unexpected(answer: &Answer) -> io::Error {
    io::Error::other(format!("unexpected answer {answer:?}"))
}

/// Says whether the error means that nobody serves there any more.
fn gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
    )
}

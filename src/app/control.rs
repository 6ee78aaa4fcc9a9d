//! How commands talk to a session's live server.
//!
//! Owns: the questions and answers, one JSON line each over a socket in the
//! session's own directory, which no sealed agent can see; the client with its
//! time limits, and the listening loop. Only the operator's own uid (and root)
//! gets an answer. Never decides anything: the server's handler does.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{UnixCredentials, getsockopt};
use parking_lot::RwLock;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::charter::Sandbox;
use crate::domain::digest::Digest;
use crate::domain::event::Launched;
use crate::domain::names::{AgentName, SessionId};
use crate::domain::state::SessionRow;
use crate::sandbox::pass;
use crate::store::make_dir;

/// What the store's layout and this protocol are; a server of another format is never talked into anything.
pub const FORMAT: u64 = crate::store::ledger::FORMAT.unsigned_abs();
const SOCKET: &str = "sock";
/// Links from agents' names to the directories of their sessions that have a server.
const NAMES: &str = "live";

mod client;

pub use client::{Live, server_pid};
const LINE_MAX: u64 = 16 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    Hello,
    /// Keep serving at least as long as this connection lives.
    Hold,
    /// Give up the hold; the last one ends a sealed mount.
    Leave,
    /// Hold, and hand over the anchor of the session's sealed mount as descriptors beside the answer; a server of
    /// a mount on the host just says who it is.
    Join,
    /// The same for an agent that only continues its session as it is, with all that a launch has to know of it.
    Enter {
        agent: AgentName,
    },
    /// Record the launch that follows, whose program waits for the answer.
    Launch {
        launched: Box<Launched>,
    },
    /// The ledger changed: read claims, charter and requests again.
    Refresh,
    /// Refuse these claims from now on, and say after which entry.
    Fence {
        claims: Vec<u64>,
    },
    /// Flush, settle every file, and make log and versions durable.
    Settle,
    /// Settle, and refuse every governed write until `Thaw`, or until this connection ends.
    Freeze,
    Thaw,
    Stats,
    /// End the session's mount; with `detach` also while files are open.
    Stop {
        detach: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub format: u64,
    pub version: String,
    pub pid: u32,
    pub uid: u32,
    pub session: String,
    /// Where it stands: percent-encoded, and empty inside a seal.
    pub at: String,
    /// The directory of the repository that it was made for, percent-encoded.
    #[serde(default)]
    pub root: String,
    pub sealed: bool,
}

/// What a launch has to know of the session whose mount it joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entered {
    pub hello: Hello,
    pub session: SessionId,
    pub row: SessionRow,
    pub sandbox: Sandbox,
    /// The charter's file says what no commit says yet.
    pub edited: bool,
}

/// What a seal entry binds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealing {
    pub count: u64,
    pub head: Digest,
    pub root: Digest,
    pub scratch_files: u64,
    pub scratch_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    Hello(Hello),
    /// The hold is taken, and the anchor comes with this.
    Joined(Hello),
    Entered(Box<Entered>),
    Done,
    /// Something in the mount is open or stands there.
    Busy,
    /// That was the last hold: the mount is ending.
    Ending,
    /// Entries up to the cut stand; no later one was allowed by the fenced claims.
    Cut {
        count: u64,
    },
    Settled(Sealing),
    Stats {
        text: String,
    },
    Failed {
        why: String,
    },
}

impl Hello {
    fn unknown() -> Self {
        Self {
            format: 0,
            version: String::new(),
            pid: 0,
            uid: 0,
            session: String::new(),
            at: String::new(),
            root: String::new(),
            sealed: false,
        }
    }
}

/// A path short enough for a socket address, however long the directory's own is.
struct ShortPath {
    path: PathBuf,
    _dir: File,
}

fn short_path(dir: &Path) -> io::Result<Option<ShortPath>> {
    let handle = match File::open(dir) {
        Ok(handle) => handle,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", handle.as_raw_fd()));
    Ok(Some(ShortPath { path, _dir: handle }))
}

fn line_of<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

fn send<T: Serialize>(stream: &mut UnixStream, message: &T) -> io::Result<()> {
    stream.write_all(&line_of(message)?)
}

fn receive<T: for<'a> Deserialize<'a>>(stream: &mut BufReader<UnixStream>) -> io::Result<T> {
    let mut line = Vec::new();
    stream.take(LINE_MAX).read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&line)?)
}

/// What answers the questions.
pub trait Handler: Send + Sync {
    fn answer(&self, ask: Ask) -> Answer;

    /// Gives up a hold, with everything so far settled and sealed or about to be.
    fn leave(&self) -> Answer;

    /// The connection of a hold has ended.
    fn let_go(&self);

    /// Returns what is sent beside the answer to [`Ask::Join`].
    fn anchor(&self) -> Vec<BorrowedFd<'_>>;

    /// Held for reading while an answer is made and sent: a server whose answer is
    /// that it ends takes it for writing before it does.
    fn speaking(&self) -> &RwLock<()>;
}

/// Lets the agent's name lead to its session kept in `dir`, whose server the caller is: from where it stands, so
/// that in a copy of the store it leads to the copy.
pub fn name(store: &Path, agent: &AgentName, dir: &Path) -> io::Result<()> {
    let names = store.join(NAMES);
    make_dir(&names)?;
    // Made aside and renamed: the name of an earlier session gives way at once. No agent's name ends so.
    let aside = names.join(format!("{agent}.lock"));
    match std::fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let below = dir.strip_prefix(store).map_err(io::Error::other)?;
    std::os::unix::fs::symlink(Path::new("..").join(below), &aside)?;
    std::fs::rename(&aside, names.join(agent.as_str()))
}

/// The server's end: the socket in the session's directory.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
}

impl Listener {
    /// Binds the socket; the caller holds the session's lock, so an old one is a dead one's.
    pub fn bind(dir: &Path) -> io::Result<Self> {
        let place = short_path(dir)?.ok_or(io::ErrorKind::NotFound)?;
        match std::fs::remove_file(&place.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self {
            socket: UnixListener::bind(&place.path)?,
        })
    }

    /// Answers until the process ends, each connection in a thread of its own.
    pub fn serve(self, handler: &Arc<dyn Handler>) -> io::Result<()> {
        for stream in self.socket.incoming() {
            let stream = match stream {
                Ok(stream) => stream,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    // Out of descriptors: shed this caller, keep serving.
                    tracing::warn!(%error, "a control connection was lost");
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                }
            };
            let handler = Arc::clone(handler);
            std::thread::Builder::new()
                .name("control".into())
                .spawn(move || converse(stream, handler.as_ref()))?;
        }
        Ok(())
    }
}

/// Says whether a caller is the operator, or root. A sealed agent has the operator's own uid, but not their pid
/// namespace.
fn may_ask(peer: UnixCredentials) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    // One number for each pid namespace that it lies in, from this process's own on.
    let is_here = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", peer.pid()));
        let status = status.unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        numbers.is_some_and(|numbers| numbers.split_whitespace().count() == 1)
    };
    peer.uid() == own && is_here() || peer.uid() == 0 && own != 0
}

fn converse(stream: UnixStream, handler: &dyn Handler) {
    if !getsockopt(&stream, PeerCredentials).is_ok_and(may_ask) {
        return;
    }
    let mut stream = BufReader::new(stream);
    let mut holds = 0;
    let mut freezes = false;
    while let Ok(ask) = receive::<Ask>(&mut stream) {
        let _speaking = handler.speaking().read();
        freezes = (freezes || ask == Ask::Freeze) && ask != Ask::Thaw;
        let holding = ask == Ask::Hold;
        let answer = if ask == Ask::Leave && holds > 0 {
            holds -= 1;
            handler.leave()
        } else {
            handler.answer(ask)
        };
        let joined = matches!(answer, Answer::Joined(_) | Answer::Entered(_));
        holds += usize::from(joined || (holding && answer == Answer::Done));
        let sent = if joined {
            line_of(&answer).and_then(|line| pass::send(stream.get_ref(), &line, &handler.anchor()))
        } else {
            send(stream.get_mut(), &answer)
        };
        if sent.is_err() {
            break;
        }
    }
    if freezes {
        handler.answer(Ask::Thaw); // whoever froze the session is gone without a word
    }
    for _ in 0..holds {
        handler.let_go();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    struct Fixed(std::fs::File, RwLock<()>);

    impl Handler for Fixed {
        fn answer(&self, ask: Ask) -> Answer {
            match ask {
                Ask::Hello => Answer::Hello(Hello {
                    pid: 7,
                    ..Hello::unknown()
                }),
                Ask::Fence { claims } => Answer::Failed {
                    why: format!("{claims:?}"),
                },
                Ask::Join => Answer::Joined(Hello::unknown()),
                _ => Answer::Done,
            }
        }

        fn leave(&self) -> Answer {
            // Nobody may end the server between this answer and its way out.
            if self.1.try_write().is_some() {
                return Answer::Done;
            }
            Answer::Ending
        }

        fn let_go(&self) {}

        fn anchor(&self) -> Vec<BorrowedFd<'_>> {
            vec![self.0.as_fd()]
        }

        fn speaking(&self) -> &RwLock<()> {
            &self.1
        }
    }

    #[test]
    fn a_question_gets_its_answer_however_long_the_directory_is() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("d".repeat(200));
        std::fs::create_dir(&dir).unwrap();
        assert!(Live::connect(&dir).unwrap().is_none());
        let listener = Listener::bind(&dir).unwrap();
        std::thread::spawn(move || {
            let null = std::fs::File::open("/dev/null").unwrap();
            let handler: Arc<dyn Handler> = Arc::new(Fixed(null, RwLock::new(())));
            listener.serve(&handler)
        });
        let mut live = Live::connect(&dir).unwrap().unwrap();
        assert_eq!(live.hello.pid, 7);
        let limit = Duration::from_secs(5);
        let answer = live.ask(&Ask::Fence { claims: vec![2, 3] }, limit).unwrap();
        assert_eq!(
            answer,
            Answer::Failed {
                why: "[2, 3]".into()
            }
        );
        assert_eq!(live.ask(&Ask::Refresh, limit).unwrap(), Answer::Done);
        assert_eq!(live.ask(&Ask::Thaw, limit).unwrap(), Answer::Done);
        let (mut live, anchor) = Live::join(&dir).unwrap().unwrap();
        assert_eq!(anchor.map(|anchor| anchor.len()), Some(1));
        assert_eq!(
            live.ask(&Ask::Leave, limit).unwrap(),
            Answer::Ending,
            "the end waits for the answer"
        );
    }

    #[test]
    fn a_caller_of_another_pid_namespace_is_nobody() {
        let caller = |pid: i32| {
            let uid = nix::unistd::geteuid().as_raw();
            let gid = nix::unistd::getegid().as_raw();
            may_ask(nix::libc::ucred { pid, uid, gid }.into())
        };
        assert!(caller(nix::unistd::getpid().as_raw()));
        assert!(!caller(0), "one that cannot be seen");
        let map = ["-Ur", "-pf", "sh", "-c", "echo up; read line"];
        let mut outer = std::process::Command::new("unshare")
            .args(map)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(outer.stdout.take().unwrap());
        out.read_line(&mut String::new()).unwrap();
        let pid = outer.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let inner: i32 = children.unwrap().trim().parse().unwrap();
        let answers = caller(inner);
        drop(outer.stdin.take());
        outer.wait().unwrap();
        assert!(!answers, "one that is sealed");
    }

    #[test]
    fn a_dead_servers_socket_is_nobody() {
        let dir = tempfile::tempdir().unwrap();
        drop(Listener::bind(dir.path()).unwrap());
        assert!(Live::connect(dir.path()).unwrap().is_none());
    }
}

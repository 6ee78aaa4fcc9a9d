//! A repository with its store: what every use case opens first.
//!
//! Owns: finding both, the ledger's identity, and which charter is in force. A
//! command that changes anything goes through [`Site::act`], which refuses a
//! ledger that stands in another place than it says, brings a new charter into
//! force by an entry, and refuses everything while the charter at the merge
//! target's tip cannot be read (fail closed). Reading needs none of that, and [`Site::bind`]
//! seals what was written before all the same.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::app::clock;
use crate::app::failure::Failure;
use crate::app::mounts;
use crate::app::upgrade;
use crate::domain::base::Oid;
use crate::domain::charter::Charter;
use crate::domain::command::{Command, Refusal};
use crate::domain::digest::Digest;
use crate::domain::event::{CharterSet, CharterSource, Draft, Entry, Event};
use crate::domain::state::{Meta, State};
use crate::git::repo::Repo;
use crate::store::ledger::{Ledger, LedgerError, Turn};

/// The charter's file.
pub const CHARTER: &str = "governor.md";
/// The store's directory inside the git directory.
pub const STORE: &str = "govfs";
/// How often a command starts again because the charter changed under it.
const RETRIES: usize = 8;

#[derive(Debug)]
pub struct Site {
    pub repo: Repo,
    pub store: PathBuf,
    pub ledger: Ledger,
}

/// What came of a command.
#[derive(Debug)]
pub struct Outcome {
    pub entries: Vec<Entry>,
    pub state: State,
    pub refusal: Option<Refusal>,
}

/// What the merge target's tip says about the charter.
#[derive(Debug, PartialEq, Eq)]
enum Tip {
    /// It is the one in force.
    Same,
    Changed(Box<CharterSet>),
}

impl Site {
    /// Opens the repository that `dir` lies in, and its ledger.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        let mut site = Self::find(dir)?;
        site.read_ledger()?;
        Ok(site)
    }

    /// Finds the repository that `dir` lies in; its ledger is opened when something is asked of it.
    fn find(dir: &Path) -> Result<Self, Failure> {
        let repo = Repo::discover(dir)?;
        let store = repo.common_dir().join(STORE);
        let ledger = Ledger::closed(&store);
        Ok(Self {
            repo,
            store,
            ledger,
        })
    }

    /// Opens the ledger, and brings it forward where it is of an older format.
    pub fn read_ledger(&mut self) -> Result<(), Failure> {
        if !self.ledger.is_open() {
            self.ledger = upgrade::open(&self.store)?;
        }
        Ok(())
    }

    /// Opens the repository that `dir` lies in, or whose governed mount on the host it lies in, and its ledger.
    pub fn around(dir: &Path) -> Result<Self, Failure> {
        let mut site = Self::found_around(dir)?;
        site.read_ledger()?;
        Ok(site)
    }

    /// As [`Site::around`], but the ledger is opened when something is asked of it.
    pub fn found_around(dir: &Path) -> Result<Self, Failure> {
        let Some(mount) = mounts::around(dir) else {
            return Self::find(dir);
        };
        let named = fs::read(mount.join(".govfs/repository")).map_err(|error| {
            Failure::missing(format!(
                "{} is a mount whose server does not answer: {error}",
                mount.display()
            ))
            .hint("govfs unmount AGENT, from the repository itself")
        })?;
        let root = PathBuf::from(OsString::from_vec(named));
        if root == mount {
            return Err(Failure::missing(
                "inside a sealed run only these work: claim, release, why, status, submit",
            )
            .hint("ask the operator for anything else: govfs submit -m MESSAGE"));
        }
        Self::find(&root)
    }

    /// Runs `work` in one turn under the charter in force.
    pub fn act<T>(
        &mut self,
        mut work: impl FnMut(&mut Turn<'_>) -> Result<T, Failure>,
    ) -> Result<(T, Vec<Entry>, State), Failure> {
        for _ in 0..RETRIES {
            let before = self.ledger.state(&[])?;
            self.refuse_other_place(&before.meta)?;
            let tip = self.look_at_tip(&before)?;
            let mut turn = self.ledger.turn(&clock::now)?;
            if turn.state().meta.charter != before.meta.charter {
                continue;
            }
            if let Tip::Changed(set) = tip {
                turn.append(&Draft::new(Event::Charter(*set)))?;
            }
            let value = work(&mut turn)?;
            let (entries, state) = turn.commit()?;
            for entry in &entries {
                let agent = entry.agent.as_ref().map(tracing::field::display);
                tracing::debug!(seq = entry.seq, agent, "an entry is recorded");
            }
            return Ok((value, entries, state));
        }
        Err(Failure::failed("the charter changes all the time").hint("try again"))
    }

    /// Records what has happened already: a seal over what is written, the end of a
    /// mount. It asks for no leave, so a charter that cannot be read holds up neither.
    pub fn bind(&mut self, draft: Draft) -> Result<(), Failure> {
        let before = self.ledger.state(&[])?;
        self.refuse_other_place(&before.meta)?;
        let mut turn = self.ledger.turn(&clock::now)?;
        let refusal = turn.command(&Command::Fact(Box::new(draft)))?;
        turn.commit()?;
        refusal.map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    /// Decides one command and records what comes of it.
    pub fn command(&mut self, command: &Command) -> Result<Outcome, Failure> {
        let (refusal, entries, state) =
            self.act(|turn| turn.command(command).map_err(Failure::from))?;
        Ok(Outcome {
            entries,
            state,
            refusal,
        })
    }

    /// A copied repository has its own future: two ledgers with one name would be a fork.
    pub fn refuse_other_place(&self, meta: &Meta) -> Result<(), Failure> {
        let here = self.repo.place().map_err(Failure::failed)?;
        match &meta.place {
            Some(place) if place.device == here.device && place.inode == here.inode => Ok(()),
            Some(place) => Err(Failure::refused(format!(
                "this ledger belongs to the git directory that was {} (device {}, inode {})",
                String::from_utf8_lossy(&place.path.0),
                place.device,
                place.inode
            ))
            .hint("a copy goes on as a ledger of its own: govfs init --new-origin")),
            None => Err(Failure::missing("this ledger was not finished").hint("govfs init")),
        }
    }

    /// Returns the branch that merges go to.
    pub fn target(state: &State) -> Result<String, Failure> {
        match &state.law {
            Some(law) => Ok(law.merge.target.clone()),
            None => Err(bad_recorded_charter()),
        }
    }

    fn look_at_tip(&self, state: &State) -> Result<Tip, Failure> {
        let Some((digest, row)) = state.charter() else {
            return Err(Failure::missing("this repository has no charter yet").hint("govfs init"));
        };
        let target = Self::target(state)?;
        let tip = self.repo.tip(&target)?;
        if let (Some(tip), CharterSource::Commit(source)) = (tip, &row.source)
            && tip == *source
        {
            return Ok(Tip::Same);
        }
        let text = match tip {
            Some(commit) => self
                .repo
                .file_at(commit, CHARTER)?
                .map(|text| (commit, text)),
            None => None,
        };
        match text {
            Some((_, text)) if Digest::of(&text) == *digest => Ok(Tip::Same),
            Some((commit, text)) => charter_set(&text, CharterSource::Commit(commit))
                .map(|set| Tip::Changed(Box::new(set))),
            None if row.source == CharterSource::Init && self.has_file() => Ok(Tip::Same),
            None if tip.is_none() && row.source != CharterSource::Init => {
                Err(self.missing_target(&target))
            }
            None => Err(missing_charter(&target, tip)),
        }
    }

    /// The branch that the charter stood on is gone: renamed, or deleted.
    fn missing_target(&self, target: &str) -> Failure {
        let here = self.repo.head_branch().filter(|here| here != target);
        let renamed = here.map_or_else(String::new, |here| {
            format!("; where it was renamed: git branch -m {here} {target}")
        });
        Failure::usage(format!(
            "there is no branch {target}, which {CHARTER} names as merge.target, so nothing may run"
        ))
        .hint(format!(
            "bring it back: git branch {target} COMMIT{renamed}"
        ))
    }

    /// Before its first commit, the charter is the file that `init` wrote: it must still be there.
    fn has_file(&self) -> bool {
        self.repo.workdir().is_none_or(|dir| {
            fs::symlink_metadata(dir.join(CHARTER)).is_ok_and(|meta| meta.is_file())
        })
    }

    /// Says whether the operator's `governor.md` differs from what is committed on the merge target.
    pub fn has_uncommitted_edit(&mut self) -> bool {
        let state = self.ledger.state(&[]);
        state.is_ok_and(|state| self.is_edited(&state))
    }

    /// The same, where the state is loaded already.
    pub fn is_edited(&self, state: &State) -> bool {
        let Some((_, row)) = state.charter() else {
            return false;
        };
        let Some(dir) = self.repo.workdir() else {
            return false;
        };
        let Ok(text) = fs::read(dir.join(CHARTER)) else {
            return false;
        };
        if text == row.text.as_bytes() {
            return false; // what the file says is in force, whatever the tip says
        }
        let Ok(target) = Self::target(state) else {
            return false;
        };
        // On another branch the file is another one, and no edit.
        if self.repo.head_branch().as_deref() != Some(target.as_str()) {
            return false;
        }
        let plain = |text: &[u8]| String::from_utf8_lossy(text).replace("\r\n", "\n");
        // The one in force may be older than the tip: the next command that acts records that.
        let committed = match self.repo.tip(&target) {
            Ok(Some(tip)) if row.source != CharterSource::Commit(tip) => {
                self.repo.file_at(tip, CHARTER).ok().flatten()
            }
            _ => None,
        };
        let committed = committed.unwrap_or_else(|| row.text.clone().into_bytes());
        plain(&text) != plain(&committed)
    }
}

fn missing_charter(target: &str, tip: Option<Oid>) -> Failure {
    let message = match tip {
        Some(_) => format!("{CHARTER} is missing at the tip of {target}, so nothing may run"),
        None => format!("{CHARTER} is missing, so nothing may run"),
    };
    Failure::usage(message).hint("put it back, or write a new one: govfs init")
}

fn bad_recorded_charter() -> Failure {
    Failure::usage("the charter in force cannot be read by this govfs, so nothing may run")
        .hint("govfs charter check")
}

/// Reads a charter's bytes as text, or says on which line they are none.
pub fn charter_text<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, Failure> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = before.split(|&byte| byte == b'\n').count();
        Failure::usage(format!("{file}:{line}: it is not UTF-8 text"))
            .hint("save it as UTF-8; nothing runs until the charter is whole")
    })
}

/// Makes the entry for a charter, or says all that is wrong with it.
pub fn charter_set(text: &[u8], source: CharterSource) -> Result<CharterSet, Failure> {
    let text = charter_text(CHARTER, text)?;
    match Charter::parse(text) {
        Ok(_) => Ok(CharterSet {
            sha256: Digest::of(text.as_bytes()),
            source,
            text: text.to_owned(),
        }),
        Err(errors) => Err(bad_charter(CHARTER, &errors)),
    }
}

/// One failure for all that is wrong with a charter, each with file, line and key.
pub fn bad_charter(file: &str, errors: &[crate::domain::charter::CharterError]) -> Failure {
    let lines: Vec<String> = errors
        .iter()
        .map(|error| {
            let key = if error.key.is_empty() {
                String::new()
            } else {
                format!(" {}:", error.key)
            };
            format!("{file}:{}:{key} {}", error.line, error.message)
        })
        .collect();
    Failure::usage(lines.join("\n"))
        .hint("nothing runs until the charter is whole: govfs charter check")
}

/// A stop that a callback wants is not an error of the ledger.
pub fn stopped(failure: &Failure) -> LedgerError {
    LedgerError::Stopped(failure.message.clone())
}

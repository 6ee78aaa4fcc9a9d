//! What each entry changed: both sides of every settled state, for `log -p` and `show -p`.
//!
//! Owns: following a write log entry by entry with the content that stood at each
//! path before, through renames and atomic saves; and what a merge or revert
//! changed on its branch. A write shows nothing: the version that it settles
//! into does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::ErrorKind;
use std::rc::Rc;

use crate::app::content::{Contents, Shift, Side};
use crate::app::failure::Failure;
use crate::app::log::{Name, Row, log_path};
use crate::app::session::{self, Session};
use crate::app::site::Site;
use crate::domain::base::Oid;
use crate::domain::entry::{Line, decode, leaf};
use crate::domain::event::{Decision, Entry, Event};
use crate::domain::layer::{Content, Layer};
use crate::domain::logop::{FileMode, LogOp};
use crate::domain::names::SessionId;
use crate::domain::path::RepoPath;
use crate::git::promote::Promote;
use crate::store::writelog::read_log;

type Stood = (FileMode, Content);

/// A write log followed from its first entry.
#[derive(Debug)]
pub struct History {
    contents: Rc<Contents>,
    layer: Layer,
    voided: BTreeSet<u64>,
    /// The bases that the session moved to later, and after how many entries.
    moves: VecDeque<(u64, Rc<Contents>)>,
    /// What an unsettled file that was moved there replaced.
    under: BTreeMap<RepoPath, Stood>,
}

impl History {
    /// Begins before the session's first entry, on its first base.
    pub fn begin(site: &mut Site, id: &SessionId) -> Result<Self, Failure> {
        let row = session::load(site, id)?;
        let mut session = Session::of(site, id, &row);
        let mut bases = VecDeque::new();
        for (count, base) in bases_of(site, id, row.entry)? {
            session.row.base = base;
            bases.push_back((count, Contents::of(site, &session)?));
        }
        let (_, contents) = bases
            .pop_front()
            .ok_or_else(|| Failure::integrity(format!("{id} has no session entry")))?;
        Ok(Self {
            contents,
            voided: voided(&session)?,
            layer: Layer::default(),
            moves: bases,
            under: BTreeMap::new(),
        })
    }

    /// Takes the next entry and says what it changed.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Vec<Shift>, Failure> {
        let line = Line::parse(bytes).map_err(Failure::integrity)?;
        let op = decode(&line).map_err(Failure::integrity)?;
        while let Some((_, contents)) = self.moves.pop_front_if(|(count, _)| *count <= line.seq) {
            self.contents = contents;
        }
        if self.voided.contains(&line.seq) {
            return Ok(Vec::new());
        }
        let shifts = self.look(&op)?;
        self.layer.apply(&op);
        Ok(shifts)
    }

    fn look(&mut self, op: &LogOp) -> Result<Vec<Shift>, Failure> {
        Ok(match op {
            LogOp::Version {
                path,
                size,
                mode,
                sha256,
            } => {
                let (size, sha256) = (*size, *sha256);
                self.settles(path, Some(*mode), Content::Version { sha256, size })?
            }
            LogOp::Recovered {
                path, size, sha256, ..
            } => {
                let (size, sha256) = (*size, *sha256);
                self.settles(path, None, Content::Version { sha256, size })?
            }
            LogOp::Symlink { path, target, .. } => {
                let old = self.stood(path)?;
                let new = (FileMode::Symlink, Content::Target(target.clone()));
                vec![self.shift(path, None, old, Some(new))]
            }
            LogOp::Unlink { path, .. } => {
                let buried = self.under.remove(path);
                match buried.or(self.stood(path)?) {
                    Some(old) => vec![self.shift(path, None, Some(old), None)],
                    None => Vec::new(),
                }
            }
            LogOp::Mode { path, mode, .. } => match self.stood(path)? {
                Some((was, content)) if was != *mode => {
                    let new = (*mode, content.clone());
                    vec![self.shift(path, None, Some((was, content)), Some(new))]
                }
                _ => Vec::new(),
            },
            LogOp::Rename {
                path, to, exchange, ..
            } => self.renames(path, to, *exchange)?,
            _ => Vec::new(),
        })
    }

    fn settles(
        &mut self,
        path: &RepoPath,
        mode: Option<FileMode>,
        content: Content,
    ) -> Result<Vec<Shift>, Failure> {
        let buried = self.under.remove(path);
        let old = buried.or(self.stood(path)?);
        let now = self.layer.at(&self.contents.base, path);
        let now = now.map_err(Failure::failed)?.and_then(|now| now.mode);
        let mode = mode.or(now).unwrap_or(FileMode::Plain);
        if old.as_ref() == Some(&(mode, content.clone())) {
            return Ok(Vec::new());
        }
        Ok(vec![self.shift(path, None, old, Some((mode, content)))])
    }

    fn renames(
        &mut self,
        from: &RepoPath,
        to: &RepoPath,
        exchange: bool,
    ) -> Result<Vec<Shift>, Failure> {
        let (source, target) = (self.stood(from)?, self.stood(to)?);
        if exchange {
            return Ok(vec![
                self.shift(from, None, source.clone(), target.clone()),
                self.shift(to, None, target, source),
            ]);
        }
        let moved = self.layer.at(&self.contents.base, from);
        let moved = moved.map_err(Failure::failed)?;
        let open = moved.is_some_and(|moved| moved.content == Content::Unsettled);
        let buried = self.under.remove(from);
        if open {
            // What it saves is shown when it settles in its new place.
            if let Some(old) = target.or(buried).or(source) {
                self.under.insert(to.clone(), old);
            }
            return Ok(Vec::new());
        }
        Ok(match target {
            Some(_) => vec![self.shift(to, None, target, source)],
            None => vec![self.shift(to, Some(from), source.clone(), source)],
        })
    }

    /// Returns what stood at a path when it last was settled.
    fn stood(&self, path: &RepoPath) -> Result<Option<Stood>, Failure> {
        let found = self.layer.at(&self.contents.base, path);
        Ok(match found.map_err(Failure::failed)? {
            Some(found) if found.settled != Content::None => {
                found.mode.map(|mode| (mode, found.settled))
            }
            _ => None,
        })
    }

    fn shift(
        &self,
        path: &RepoPath,
        from: Option<&RepoPath>,
        old: Option<Stood>,
        new: Option<Stood>,
    ) -> Shift {
        let side = |(mode, content)| Side::new(&self.contents, mode, content);
        Shift {
            path: path.clone(),
            from: from.cloned(),
            old: old.map(side),
            new: new.map(side),
        }
    }
}

/// Lists the session's bases, each with how much of its log was written before.
fn bases_of(site: &mut Site, id: &SessionId, entry: u64) -> Result<Vec<(u64, Oid)>, Failure> {
    let mut found = Vec::new();
    let lines = site.ledger.lines()?;
    lines.forward(entry, &mut |_, bytes| {
        let line = Line::parse(bytes)?;
        if !matches!(line.op, "session" | "sync") || line.session != Some(id.as_str()) {
            return Ok(true);
        }
        match Entry::from_line(&line, leaf(bytes))?.event {
            Event::Session(body) => found.push((0, body.base)),
            Event::Sync(body) if body.decision == Decision::Allow => {
                found.push((body.count, body.base));
            }
            _ => {}
        }
        Ok(true)
    })?;
    Ok(found)
}

/// Reads the event of a ledger line.
fn event_of(bytes: &[u8]) -> Result<Event, Failure> {
    let line = Line::parse(bytes).map_err(Failure::integrity)?;
    let entry = Entry::from_line(&line, leaf(bytes)).map_err(Failure::integrity)?;
    Ok(entry.event)
}

/// Finds the entries of a log that were undone.
fn voided(session: &Session) -> Result<BTreeSet<u64>, Failure> {
    let mut found = BTreeSet::new();
    let mut lines = match read_log(&session.log()) {
        Ok(lines) => lines,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(Failure::failed(error)),
    };
    while let Some(bytes) = lines.read().map_err(Failure::failed)? {
        let line = Line::parse(bytes).map_err(Failure::integrity)?;
        if line.op == "void"
            && let Ok(LogOp::Void { entry, .. }) = decode(&line)
        {
            found.insert(entry);
        }
    }
    Ok(found)
}

/// Returns what a ledger entry changed on a branch.
pub fn of_ledger(promote: &Rc<Promote>, bytes: &[u8]) -> Result<Vec<Shift>, Failure> {
    let (onto, commit) = match event_of(bytes)? {
        Event::Merge(body) if body.decision == Decision::Allow => (body.onto, body.commit),
        Event::Revert(body) => (body.onto, Some(body.commit)),
        _ => return Ok(Vec::new()),
    };
    let Some(commit) = commit else {
        return Ok(Vec::new());
    };
    let tree = |commit| promote.tree_of(commit).map_err(Failure::failed);
    let deltas = promote
        .diff(Some(tree(onto)?), Some(tree(commit)?))
        .map_err(Failure::failed)?;
    Ok(deltas
        .iter()
        .map(|delta| Shift::of_delta(promote, delta))
        .collect())
}

/// Returns what one entry changed.
pub fn of_entry(site: &mut Site, name: &Name, row: &Row) -> Result<Vec<Shift>, Failure> {
    let Name::Session(id, seq) = name else {
        let promote = Promote::open(site.repo.common_dir()).map_err(Failure::failed)?;
        return of_ledger(&Rc::new(promote), &row.line);
    };
    let mut history = History::begin(site, id)?;
    let mut lines = read_log(&log_path(site, id)).map_err(Failure::failed)?;
    for at in 0.. {
        let Some(bytes) = lines.read().map_err(Failure::failed)? else {
            break;
        };
        let shifts = history.step(bytes)?;
        if at == *seq {
            return Ok(shifts);
        }
    }
    Ok(Vec::new())
}

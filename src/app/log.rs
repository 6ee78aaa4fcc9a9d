//! `log` and `show`: the ledger and the write logs, read as one.
//!
//! Owns: merging the chains by time, and the filters. Lines are handed out as
//! they are stored. Beside a live server a write log is read up to its last
//! whole line.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;

use serde_json::Value;

use crate::app::content::Shift;
use crate::app::failure::Failure;
use crate::app::history::{self, History};
use crate::app::session;
use crate::app::site::Site;
use crate::domain::command::Need;
use crate::domain::entry::Line;
use crate::domain::names::SessionId;
use crate::domain::path::RepoPath;
use crate::domain::pattern::Pattern;
use crate::domain::state::Kind;
use crate::domain::time::Timestamp;
use crate::git::promote::Promote;
use crate::store::writelog::{LogLines, read_log};

mod follow;

pub use follow::follow;

/// Which entries to show.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub agent: Option<String>,
    pub session: Option<String>,
    pub path: Option<RepoPath>,
    /// Any of these; all where empty.
    pub ops: Vec<String>,
    pub denied: bool,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Only the newest so many.
    pub newest: Option<usize>,
    /// Newest first.
    pub reverse: bool,
    /// With what each entry changed.
    pub patch: bool,
}

/// One line and where it stands.
#[derive(Clone, Debug)]
pub struct Row {
    pub seq: u64,
    pub ts: Timestamp,
    /// The session whose write log it is in; `None` for the ledger.
    pub log: Option<SessionId>,
    pub line: Vec<u8>,
    /// What it changed, where that was asked for.
    pub shifts: Vec<Shift>,
}

impl Row {
    /// Returns the name of the entry: `N`, or `SESSION:N`.
    pub fn name(&self) -> String {
        match &self.log {
            Some(session) => format!("{session}:{}", self.seq),
            None => self.seq.to_string(),
        }
    }
}

impl Filter {
    fn keeps(&self, line: &Line<'_>) -> bool {
        self.agent
            .as_deref()
            .is_none_or(|agent| line.agent == Some(agent))
            && self
                .session
                .as_deref()
                .is_none_or(|session| line.session == Some(session))
            && (self.ops.is_empty() || self.ops.iter().any(|op| op == line.op))
            && self.since.is_none_or(|since| line.ts >= since)
            && self.until.is_none_or(|until| line.ts <= until)
            && (!self.denied || is_denial(line))
            && self.path.as_ref().is_none_or(|path| speaks_of(line, path))
    }
}

fn is_denial(line: &Line<'_>) -> bool {
    matches!(line.op, "denied" | "deny") || line.get("decision") == Some(br#""deny""#)
}

/// Says whether an entry names `path`, something beneath it, or a pattern that covers it.
fn speaks_of(line: &Line<'_>, path: &RepoPath) -> bool {
    let Ok(body) = line.body() else { return false };
    body.iter().any(|(key, value)| mentions(key, value, path))
}

fn mentions(key: &str, value: &Value, path: &RepoPath) -> bool {
    match value {
        Value::String(text) => match key {
            "path" | "to" | "from" | "witness" => {
                RepoPath::decode(text).is_ok_and(|found| found.starts_with(path))
            }
            "pattern" | "patterns" | "theirs" => serde_json::from_value::<Pattern>(value.clone())
                .is_ok_and(|pattern| {
                    pattern.covers(path) || pattern.literal_prefix().starts_with(path)
                }),
            _ => false,
        },
        Value::Array(items) => items.iter().any(|item| mentions(key, item, path)),
        Value::Object(map) => map.iter().any(|(key, value)| mentions(key, value, path)),
        _ => false,
    }
}

/// Says that there is no such agent or session, where the filter asks for one.
pub fn ensure_known(site: &mut Site, filter: &Filter) -> Result<(), Failure> {
    if let Some(wanted) = &filter.agent {
        let state = site.ledger.state(&[Need::All(Kind::Agent)])?;
        if !state.agents.keys().any(|name| name.as_str() == wanted) {
            return Err(
                Failure::missing(format!("there is no agent {wanted}")).hint("govfs agent list")
            );
        }
    }
    if let Some(wanted) = &filter.session {
        let state = site.ledger.state(&[Need::All(Kind::Session)])?;
        if !state.sessions.keys().any(|name| name.as_str() == wanted) {
            return Err(Failure::missing(format!("there is no session {wanted}"))
                .hint("govfs log --op session"));
        }
    }
    Ok(())
}

/// Hands out what the filter keeps, in order, until `each` says false.
pub fn read(
    site: &mut Site,
    filter: &Filter,
    each: &mut dyn FnMut(&Row) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    Stream::open(site, filter)?.read(site, filter, each)
}

/// One write log, at its next line.
struct Source {
    session: SessionId,
    lines: LogLines,
    next: Option<Row>,
    history: Option<History>,
}

impl Source {
    fn advance(&mut self) -> Result<(), Failure> {
        let bytes = self.lines.read().map_err(Failure::failed)?;
        self.next = match bytes {
            Some(bytes) => {
                let mut row = row(Some(self.session.clone()), bytes)?;
                if let Some(history) = &mut self.history {
                    row.shifts = history.step(bytes)?;
                }
                Some(row)
            }
            None => None,
        };
        Ok(())
    }
}

fn row(log: Option<SessionId>, bytes: &[u8]) -> Result<Row, Failure> {
    let line = Line::parse(bytes).map_err(|fault| {
        let place = log
            .as_ref()
            .map_or("the ledger".to_owned(), ToString::to_string);
        Failure::integrity(format!("{place}: {fault}")).hint("govfs verify says where")
    })?;
    Ok(Row {
        seq: line.seq,
        ts: line.ts,
        log,
        line: bytes.to_vec(),
        shifts: Vec::new(),
    })
}

/// The directory of a session in the store.
pub fn session_dir(site: &Site, session: &SessionId) -> PathBuf {
    session::directory(&site.store, session)
}

/// Where a session's write log is.
pub fn log_path(site: &Site, session: &SessionId) -> PathBuf {
    session_dir(site, session).join(session::LOG)
}

/// All chains at once, each where reading has come to.
struct Stream {
    sources: Vec<Source>,
    /// The ledger's next entry.
    next: u64,
    promote: Option<Rc<Promote>>,
}

impl Stream {
    fn open(site: &mut Site, filter: &Filter) -> Result<Self, Failure> {
        let promote = if filter.patch {
            Some(Promote::open(site.repo.common_dir()).map_err(Failure::failed)?)
        } else {
            None
        };
        let mut stream = Self {
            sources: Vec::new(),
            next: 0,
            promote: promote.map(Rc::new),
        };
        stream.find_sources(site, filter)?;
        Ok(stream)
    }

    /// Takes in the write logs that are not known yet.
    fn find_sources(&mut self, site: &mut Site, filter: &Filter) -> Result<(), Failure> {
        let state = site.ledger.state(&[Need::All(Kind::Session)])?;
        for (id, row) in state.sessions {
            let is = |wanted: &Option<String>, name: &str| {
                wanted.as_deref().is_none_or(|wanted| wanted == name)
            };
            let wanted = is(&filter.session, id.as_str()) && is(&filter.agent, row.agent.as_str());
            let known = self.sources.iter().any(|source| source.session == id);
            let path = log_path(site, &id);
            if !wanted || known {
                continue;
            }
            let lines = match read_log(&path) {
                Ok(lines) => lines,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Failure::failed(format!("{}: {error}", path.display()))),
            };
            let history = if filter.patch {
                Some(History::begin(site, &id)?)
            } else {
                None
            };
            let mut source = Source {
                session: id,
                lines,
                next: None,
                history,
            };
            source.advance()?;
            self.sources.push(source);
        }
        Ok(())
    }

    /// Reads on, the newest or the reverse only where that was asked for.
    fn read(
        &mut self,
        site: &mut Site,
        filter: &Filter,
        each: &mut dyn FnMut(&Row) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        if filter.newest.is_none() && !filter.reverse {
            return self.merged(site, filter, each).map(drop);
        }
        let most = filter.newest.unwrap_or(usize::MAX);
        let mut kept: VecDeque<Row> = VecDeque::new();
        self.merged(site, filter, &mut |row| {
            if kept.len() == most {
                kept.pop_front();
            }
            if most > 0 {
                kept.push_back(row.clone());
            }
            Ok(true)
        })?;
        let mut kept: Vec<Row> = kept.into();
        if filter.reverse {
            kept.reverse();
        }
        for row in &kept {
            if !each(row)? {
                break;
            }
        }
        Ok(())
    }

    /// Merges the ledger with the write logs by time; says whether `each` wants more.
    fn merged(
        &mut self,
        site: &mut Site,
        filter: &Filter,
        each: &mut dyn FnMut(&Row) -> Result<bool, Failure>,
    ) -> Result<bool, Failure> {
        let (sources, promote, next) = (&mut self.sources, &self.promote, &mut self.next);
        let mut outcome = Ok(true);
        let lines = site.ledger.lines()?;
        lines.forward(*next, &mut |seq, bytes| {
            *next = seq + 1;
            outcome = row(None, bytes).and_then(|mut row| {
                if !drain(sources, Some(row.ts), filter, each)? {
                    return Ok(false);
                }
                if let Some(promote) = promote {
                    row.shifts = history::of_ledger(promote, bytes)?;
                }
                show(&row, filter, each)
            });
            Ok(matches!(outcome, Ok(true)))
        })?;
        Ok(outcome? && drain(sources, None, filter, each)?)
    }
}

/// Hands out the write logs' lines that come before `until`.
fn drain(
    sources: &mut [Source],
    until: Option<Timestamp>,
    filter: &Filter,
    each: &mut dyn FnMut(&Row) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    loop {
        let earliest = sources
            .iter_mut()
            .filter(|source| source.next.is_some())
            .min_by_key(|source| source.next.as_ref().map(|row| row.ts));
        let Some(source) = earliest else {
            return Ok(true);
        };
        let due = source
            .next
            .as_ref()
            .is_some_and(|row| until.is_none_or(|until| row.ts < until));
        if !due {
            return Ok(true);
        }
        let row = source.next.take();
        source.advance()?;
        if let Some(row) = row
            && !show(&row, filter, each)?
        {
            return Ok(false);
        }
    }
}

fn show(
    row: &Row,
    filter: &Filter,
    each: &mut dyn FnMut(&Row) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    match Line::parse(&row.line) {
        Ok(line) if filter.keeps(&line) => each(row),
        _ => Ok(true),
    }
}

/// Names an entry: of the ledger, or of a session's write log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    Ledger(u64),
    Session(SessionId, u64),
}

impl std::str::FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no entry: N, or SESSION:N");
        match text.rsplit_once(':') {
            Some((session, seq)) => Ok(Self::Session(
                session.parse().map_err(|_| bad())?,
                seq.parse().map_err(|_| bad())?,
            )),
            None => text.parse().map(Self::Ledger).map_err(|_| bad()),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ledger(seq) => write!(f, "{seq}"),
            Self::Session(session, seq) => write!(f, "{session}:{seq}"),
        }
    }
}

/// Returns one entry.
pub fn find(site: &mut Site, name: &Name) -> Result<Row, Failure> {
    let missing = || Failure::missing(format!("there is no entry {name}")).hint("govfs log");
    match name {
        Name::Ledger(seq) => {
            let line = site.ledger.lines()?.line(*seq)?.ok_or_else(missing)?;
            row(None, &line)
        }
        Name::Session(session, seq) => {
            let mut lines = read_log(&log_path(site, session)).map_err(|_| missing())?;
            let mut at = 0;
            while let Some(bytes) = lines.read().map_err(Failure::failed)? {
                if at == *seq {
                    return row(Some(session.clone()), bytes);
                }
                at += 1;
            }
            Err(missing())
        }
    }
}

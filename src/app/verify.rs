//! `verify`: is the ledger whole, and is it the one that was there before?
//!
//! Looks at the entries themselves first: chain, tree, what the projections say of
//! the end. Then at everything held against them: checkpoints given by hand, the
//! copies under the state directory, the trailers of the merge target's commits.
//! Then at the write logs, up to their last whole line beside a live server. Deep:
//! the fold against the projections, every kept version's bytes, and every merged
//! tree computed again. The first fault is the answer: what and where. What is odd
//! but no fault is a remark.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::app::export;
use crate::app::failure::Failure;
use crate::app::keys;
use crate::app::log::log_path;
use crate::app::merge::again::{self, Again};
use crate::app::site::Site;
use crate::domain::charter::Charter;
use crate::domain::checkpoint::{Checkpoint, Note, Origin, PublicKey};
use crate::domain::digest::Digest;
use crate::domain::entry::{Line, leaf};
use crate::domain::event::{Entry, Event};
use crate::domain::export::LEDGER;
use crate::domain::names::SessionId;
use crate::domain::proof::Tree;
use crate::git::repo::Repo;
use crate::store::exported::Verified;
use crate::store::keys::{Copies, Kept};
use crate::store::versions::{VersionError, Versions};
use crate::store::writelog::read_log;

mod pass;

use pass::{Held, Others, Pass};

/// The trailer of merge commits that anchors the ledger.
pub const TRAILER: &str = "Govfs-Checkpoint";
/// Where clones carry the export.
pub const REF: &str = "refs/govfs/ledger";

#[derive(Clone, Debug, Default)]
pub struct Options {
    pub deep: bool,
    /// Checkpoints that were held elsewhere.
    pub checkpoints: Vec<PathBuf>,
    /// Other operators' ledgers, which account for their own merges to the same branch.
    pub beside: Vec<Origin>,
}

/// What was found whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub entries: u64,
    pub root: Digest,
    pub sessions: u64,
    pub writes: u64,
    /// How many statements made earlier it agrees with.
    pub anchors: u64,
    pub versions: u64,
    /// Odd, but no fault: a break of custody, dropped contents, an unsealed tail.
    pub remarks: Vec<String>,
}

pub fn verify(site: &mut Site, options: &Options) -> Result<Report, Failure> {
    if site.ledger.lines()?.tail()?.0.seq() == 0 {
        return Err(Failure::missing("this ledger was not finished").hint("govfs init"));
    }
    let held = gather(site, options)?;
    let mut pass = Pass::new(options.deep, &held);
    let lines = site.ledger.lines()?;
    lines.forward(0, &mut |_, bytes| pass.line(bytes).map(|()| true))?;
    let (end, frontier) = lines.tail()?;
    if end.seq() != pass.chain.seq()
        || end.prev() != pass.chain.prev()
        || frontier.root() != pass.tree.root()
    {
        let (have, recorded) = (pass.chain.seq(), end.seq());
        return Err(Failure::integrity(format!(
            "ledger: {have} entries are there, but {recorded} were recorded"
        )));
    }
    pass.check_late(&lines)?;
    if let Some(fold) = &pass.fold
        && let Some(difference) = lines.compare(fold)?
    {
        return Err(Failure::integrity(format!("projection {difference}")));
    }
    drop(lines);
    let held = pass.name_others(held, &options.beside)?;
    for held in &held {
        pass.agrees(held)?;
    }
    let (sessions, writes, named) = verify_logs(site, &mut pass, options.deep)?;
    name_dropped(site, &mut pass);
    let versions = if options.deep {
        let versions = verify_versions(site, &pass, &named)?;
        verify_trees(site, &mut pass)?;
        versions
    } else {
        0
    };
    Ok(Report {
        entries: pass.chain.seq(),
        root: pass.tree.root(),
        sessions,
        writes,
        anchors: held.len() as u64,
        versions,
        remarks: pass.remarks,
    })
}

/// Every merged tree must be what its session's log gives.
fn verify_trees(site: &mut Site, pass: &mut Pass) -> Result<(), Failure> {
    let dropped: BTreeSet<Digest> = pass.dropped.keys().copied().collect();
    for entry in std::mem::take(&mut pass.moves) {
        let seq = entry.seq;
        match again::again(site, &entry, &dropped)? {
            Again::Same => {}
            Again::Gone(why) => pass.remarks.push(format!(
                "entry {seq}: its tree cannot be computed again: {why}"
            )),
            Again::Differs(what) => {
                return Err(Failure::integrity(format!("entry {seq}: {what}")));
            }
        }
    }
    Ok(())
}

/// Collects what was stated earlier: by hand, in the state directory, in the branch.
fn gather(site: &mut Site, options: &Options) -> Result<Vec<Held>, Failure> {
    let mut held = Vec::new();
    for path in &options.checkpoints {
        let bytes = std::fs::read(path)
            .map_err(|error| Failure::missing(format!("{}: {error}", path.display())))?;
        let note = Note::parse(&bytes)
            .map_err(|error| Failure::integrity(format!("{}: {error}", path.display())))?;
        held.push(Held::signed(note, path.display().to_string()));
    }
    let state = site.ledger.state(&[])?;
    if let Some(origin) = &state.meta.origin
        && let Ok(dir) = keys::state_dir()
    {
        let copies = Copies::of(&dir, origin);
        for kept in copies.all()? {
            if let Kept::Note(note) = kept {
                held.push(Held::signed(note, copies.path().display().to_string()));
            }
        }
    }
    if let Some(law) = &state.law {
        for trailer in site.repo.trailers(&law.merge.target, TRAILER)? {
            let place = format!("commit {}", trailer.commit);
            let checkpoint = Checkpoint::from_trailer(&trailer.value)
                .map_err(|error| Failure::integrity(format!("{place}: {error}")))?;
            held.push(Held {
                checkpoint,
                place,
                note: None,
            });
        }
    }
    Ok(held)
}

/// Verifies every write log; deep, also collects the versions that they name.
fn verify_logs(
    site: &Site,
    pass: &mut Pass,
    deep: bool,
) -> Result<(u64, u64, BTreeSet<Digest>), Failure> {
    let mut named = BTreeSet::new();
    let (mut sessions, mut writes) = (0, 0);
    let bound: Vec<(String, u64)> = pass
        .bound
        .sessions()
        .map(|(name, covered)| (name.to_owned(), covered))
        .collect();
    for (name, covered) in bound {
        let id: SessionId = name.parse().map_err(Failure::integrity)?;
        sessions += 1;
        let path = log_path(site, &id);
        let shown = format!("session {name}");
        let mut lines = match read_log(&path) {
            Ok(lines) => lines,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && covered == 0 => continue,
            Err(error) => {
                return Err(Failure::integrity(format!(
                    "{shown}: its write log: {error}"
                )));
            }
        };
        let mut audit = pass
            .bound
            .audit(&name, &shown)
            .map_err(Failure::integrity)?;
        let mut own: BTreeMap<u64, Digest> = BTreeMap::new();
        while let Some(bytes) = lines.read().map_err(|error| unread(&shown, &error))? {
            let (line, _) = audit.line(bytes).map_err(Failure::integrity)?;
            writes += 1;
            if deep && line.op == "version" {
                own.extend(line.digest("sha256").map(|sha256| (line.seq, sha256)));
            } else if deep && line.op == "void" {
                // Its content was lost after the last seal, and its file says so.
                own.retain(|seq, _| line.natural("entry") != Some(*seq));
            }
        }
        named.extend(own.into_values());
        let beyond = audit.end().map_err(Failure::integrity)?;
        if beyond > 0 {
            pass.remarks
                .push(format!("{shown}: {beyond} entries are not sealed yet"));
        }
    }
    Ok((sessions, writes, named))
}

/// A packed log whose bytes are not what was packed is altered; anything else is the machine's.
fn unread(shown: &str, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    let what = format!("{shown}: its write log: {error}");
    match error.kind() {
        InvalidData | InvalidInput | UnexpectedEof => Failure::integrity(what),
        _ => Failure::failed(what),
    }
}

/// Says which contents are gone, and by which entry: no fault, they were past retention.
fn name_dropped(site: &Site, pass: &mut Pass) {
    let versions = Versions::of(&site.store);
    let mut gone: BTreeMap<u64, u64> = BTreeMap::new();
    for (sha256, entry) in &pass.dropped {
        if !versions.has(sha256) {
            *gone.entry(*entry).or_default() += 1;
        }
    }
    let remarks = gone
        .iter()
        .map(|(entry, count)| format!("content dropped by entry {entry}: {count} of them"));
    pass.remarks.extend(remarks);
}

/// Reads every kept version, and misses those that a log names and nobody dropped.
fn verify_versions(site: &Site, pass: &Pass, named: &BTreeSet<Digest>) -> Result<u64, Failure> {
    let versions = Versions::of(&site.store);
    let kept = versions.all().map_err(Failure::failed)?;
    for sha256 in &kept {
        match versions.check(sha256) {
            // One that is missing now was dropped by a gc that runs beside us.
            Ok(_) | Err(VersionError::Missing(_)) => {}
            Err(error @ VersionError::Altered { .. }) => return Err(Failure::integrity(error)),
            Err(error) => return Err(Failure::failed(error)),
        }
    }
    for sha256 in named {
        if !pass.dropped.contains_key(sha256) && !versions.has(sha256) {
            return Err(Failure::integrity(VersionError::Missing(*sha256)));
        }
    }
    Ok(kept.len() as u64)
}

/// What was found whole in the export that clones carry.
#[derive(Debug)]
pub struct Referred {
    pub verified: Verified,
    /// How many merge commits state it.
    pub anchors: u64,
    pub remarks: Vec<String>,
}

/// Verifies the export that clones carry, and every merge commit's trailer against it.
pub fn verify_ref(
    dir: &Path,
    key: Option<&PublicKey>,
    held: &[PathBuf],
    beside: &[Origin],
) -> Result<Referred, Failure> {
    let repo = Repo::discover(dir)?;
    let Some(blobs) = repo.read_ref(REF)? else {
        return Err(Failure::missing(format!("there is no {REF}"))
            .hint(format!("fetch it: git fetch origin {REF}:{REF}")));
    };
    let states = states_of(&blobs);
    let dir = tempfile::tempdir().map_err(Failure::failed)?;
    export::lay_out(&blobs, dir.path())?;
    let verified = export::audit(dir.path(), key, held)?;
    let law = states.law.as_ref();
    let target = law.map_or("main", |law| law.merge.target.as_str());
    let mut anchors = 0;
    let mut others = Others::default();
    for trailer in repo.trailers_behind(&repo.seen_tips(target)?, TRAILER)? {
        let place = format!("commit {}", trailer.commit);
        let stated = Checkpoint::from_trailer(&trailer.value)
            .map_err(|error| Failure::integrity(format!("{place}: {error}")))?;
        if !states.origins.contains(&stated.origin) {
            others.add(stated.origin, &place, beside)?;
            continue;
        }
        let found = usize::try_from(stated.size)
            .ok()
            .and_then(|size| states.roots.get(size));
        if found != Some(&stated.root) {
            return Err(Failure::integrity(format!(
                "{place}: its trailer states another history of the first {} entries",
                stated.size
            ))
            .hint("the export may be older than the commit: govfs export --ref on the operator's machine"));
        }
        anchors += 1;
    }
    Ok(Referred {
        verified,
        anchors,
        remarks: others.remarks().collect(),
    })
}

/// What an export says of itself as it grows.
struct States {
    /// The tree's root after each entry.
    roots: Vec<Digest>,
    /// All names that it ever had.
    origins: BTreeSet<Origin>,
    /// The last charter.
    law: Option<Charter>,
}

fn states_of(blobs: &BTreeMap<String, Vec<u8>>) -> States {
    let mut tree = Tree::new();
    let mut states = States {
        roots: vec![tree.root()],
        origins: BTreeSet::new(),
        law: None,
    };
    let ledger = blobs.get(LEDGER).map(Vec::as_slice).unwrap_or_default();
    for bytes in ledger
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        tree.push(leaf(bytes));
        states.roots.push(tree.root());
        if let Ok(line) = Line::parse(bytes)
            && matches!(line.op, "charter" | "key" | "fork")
            && let Ok(entry) = Entry::from_line(&line, leaf(bytes))
        {
            match entry.event {
                Event::Charter(body) => states.law = Charter::parse(&body.text).ok(),
                Event::Key(body) => drop(states.origins.insert(body.origin)),
                Event::Fork(body) => drop(states.origins.insert(body.origin)),
                _ => {}
            }
        }
    }
    states
}

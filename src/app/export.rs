//! `export` and `verify --export`: the ledger as files that anybody can verify.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Cursor, Read, Write};
use std::path::{Path, PathBuf};

use crate::app::checkpoint;
use crate::app::failure::Failure;
use crate::app::keys;
use crate::app::live;
use crate::app::log::log_path;
use crate::app::site::Site;
use crate::domain::checkpoint::{Checkpoint, Note, PublicKey, SecretKey};
use crate::domain::command::Need;
use crate::domain::digest::Digest;
use crate::domain::entry::Chain;
use crate::domain::export::{
    self, Bound, CHARTERS, CHECKPOINT, ExportAudit, KEY, LEDGER, README, SESSIONS,
};
use crate::domain::names::SessionId;
use crate::domain::proof::Tree;
use crate::domain::state::Kind;
use crate::store::writelog::Lines;

const BUFFER: usize = 1 << 17;

/// Where an export is read from.
#[derive(Debug)]
pub enum Files {
    Directory(PathBuf),
    /// The blobs of `refs/govfs/ledger`.
    Blobs(BTreeMap<String, Vec<u8>>),
}

/// What an export was found to contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    pub checkpoint: Checkpoint,
    pub key: PublicKey,
    pub sessions: u64,
    pub writes: u64,
}

impl Files {
    fn open(&self, name: &str) -> Result<Box<dyn BufRead + '_>, Failure> {
        let missing = || Failure::integrity(format!("{name}: is missing"));
        match self {
            Self::Directory(dir) => match File::open(dir.join(name)) {
                Ok(file) => Ok(Box::new(BufReader::with_capacity(BUFFER, file))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(missing()),
                Err(error) => Err(Failure::failed(format!("{name}: {error}"))),
            },
            Self::Blobs(blobs) => {
                let bytes = blobs.get(name).ok_or_else(missing)?;
                Ok(Box::new(Cursor::new(bytes)))
            }
        }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let read = self.open(name)?.read_to_end(&mut bytes);
        read.map_err(|error| Failure::failed(format!("{name}: {error}")))?;
        Ok(bytes)
    }

    /// Returns the names of the files in `folder`, `folder/` before each.
    fn list(&self, folder: &str) -> Result<Vec<String>, Failure> {
        let mut names = match self {
            Self::Directory(dir) => {
                let entries = match fs::read_dir(dir.join(folder)) {
                    Ok(entries) => entries,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
                    Err(error) => return Err(Failure::failed(format!("{folder}: {error}"))),
                };
                let name = |entry: std::io::Result<fs::DirEntry>| {
                    let name = entry.map_err(Failure::failed)?.file_name();
                    Ok(format!("{folder}/{}", name.to_string_lossy()))
                };
                entries.map(name).collect::<Result<Vec<_>, Failure>>()?
            }
            Self::Blobs(blobs) => {
                let prefix = format!("{folder}/");
                blobs.keys().filter(|name| name.starts_with(&prefix)).cloned().collect()
            }
        };
        names.sort();
        Ok(names)
    }
}

/// Verifies an export against the key that the auditor trusts and the checkpoints he kept.
pub fn audit(
    files: &Files,
    key: Option<&PublicKey>,
    held: &[PathBuf],
) -> Result<Audited, Failure> {
    let own = files.read(KEY)?;
    let mut audit =
        ExportAudit::new(&files.read(CHECKPOINT)?, &own, key).map_err(Failure::integrity)?;
    for path in held {
        let bytes = fs::read(path)
            .map_err(|error| Failure::missing(format!("{}: {error}", path.display())))?;
        let note = Note::parse(&bytes)
            .map_err(|error| Failure::integrity(format!("{}: {error}", path.display())))?;
        audit.hold(note.claimed()).map_err(Failure::integrity)?;
    }
    let mut lines = Lines::new(files.open(LEDGER)?);
    while let Some(bytes) = lines.read().map_err(Failure::failed)? {
        audit.ledger(bytes).map_err(Failure::integrity)?;
    }
    refuse_rest(LEDGER, lines.rest())?;
    let bound = audit.end().map_err(Failure::integrity)?;
    let (sessions, writes) = audit_sessions(files, bound)?;
    for file in files.list(CHARTERS)? {
        export::check_charter(&file, &files.read(&file)?).map_err(Failure::integrity)?;
    }
    export::check_readme(&files.read(README)?).map_err(Failure::integrity)?;
    Ok(Audited {
        checkpoint: audit.checkpoint().clone(),
        key: PublicKey::from_der(&own).map_err(Failure::integrity)?,
        sessions,
        writes,
    })
}

/// Bytes after the last newline are no line.
fn refuse_rest(file: &str, rest: &[u8]) -> Result<(), Failure> {
    if rest.is_empty() {
        return Ok(());
    }
    let fault = export::Fault::at(file, None, export::Flaw::Torn);
    Err(Failure::integrity(fault))
}

fn audit_sessions(files: &Files, bound: &Bound) -> Result<(u64, u64), Failure> {
    let mut strangers = files.list(SESSIONS)?;
    let (mut sessions, mut writes) = (0, 0);
    for (name, covered) in bound.sessions() {
        let file = export::session_file(name);
        sessions += 1;
        match strangers.iter().position(|found| *found == file) {
            Some(at) => drop(strangers.remove(at)),
            None if covered == 0 => continue,
            None => {
                let fault = export::Fault::at(&file, None, export::Flaw::Missing);
                return Err(Failure::integrity(fault));
            }
        }
        let mut audit = bound.audit(name, &file).map_err(Failure::integrity)?;
        let mut lines = Lines::new(files.open(&file)?);
        while let Some(bytes) = lines.read().map_err(Failure::failed)? {
            audit.line(bytes).map_err(Failure::integrity)?;
        }
        refuse_rest(&file, lines.rest())?;
        writes += export::end_session(&audit).map_err(Failure::integrity)?;
    }
    match strangers.first() {
        Some(file) => Err(Failure::integrity(export::Fault::at(
            file,
            None,
            export::Flaw::Stranger,
        ))),
        None => Ok((sessions, writes)),
    }
}

/// Writes the whole ledger to `dir`, signed.
pub fn export(site: &mut Site, dir: &Path) -> Result<Checkpoint, Failure> {
    live::seal_all(site)?;
    let state = site.ledger.state(&[Need::All(Kind::Key), Need::All(Kind::Charter)])?;
    let (origin, key) = keys::signing(&state)?;
    for folder in [dir.to_owned(), dir.join(SESSIONS), dir.join(CHARTERS)] {
        fs::create_dir_all(&folder).map_err(|error| Failure::failed(format!("{}: {error}", folder.display())))?;
    }
    let (tree, bound) = export_ledger(site, dir)?;
    for (name, covered) in bound.sessions() {
        export_session(site, dir, name, covered)?;
    }
    for row in state.charters.values() {
        let text = row.text.as_bytes();
        put(dir, &export::charter_file(text), text)?;
    }
    let checkpoint = Checkpoint {
        origin,
        size: tree.size(),
        root: tree.root(),
    };
    seal_export(site, dir, &checkpoint, &key)?;
    Ok(checkpoint)
}

/// Signs what was written, and records the signature after it.
fn seal_export(
    site: &mut Site,
    dir: &Path,
    checkpoint: &Checkpoint,
    key: &SecretKey,
) -> Result<(), Failure> {
    let note = checkpoint.sign(key);
    put(dir, KEY, &key.public().der())?;
    put(dir, README, export::readme(checkpoint).as_bytes())?;
    put(dir, CHECKPOINT, note.as_bytes())?;
    checkpoint::keep_copy(checkpoint, &note)?;
    site.act(|turn| {
        turn.append(&checkpoint::record(checkpoint))?;
        Ok(())
    })?;
    Ok(())
}

fn export_ledger(site: &mut Site, dir: &Path) -> Result<(Tree, Bound), Failure> {
    let path = dir.join(LEDGER);
    let fault = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
    let mut file = BufWriter::new(File::create(&path).map_err(fault)?);
    let mut chain = Chain::new(Digest::ZERO);
    let mut tree = Tree::new();
    let mut bound = Bound::default();
    let mut written = Ok(());
    site.ledger.lines()?.forward(0, &mut |_, bytes| {
        let (line, leaf) = chain.push(bytes)?;
        tree.push(leaf);
        bound
            .note(&line, leaf)
            .map_err(|flaw| crate::store::ledger::LedgerError::Damaged(format!("entry {}: {flaw}", line.seq)))?;
        written = file.write_all(bytes).and_then(|()| file.write_all(b"\n"));
        Ok(written.is_ok())
    })?;
    written.and_then(|()| file.flush()).map_err(fault)?;
    Ok((tree, bound))
}

fn export_session(site: &Site, dir: &Path, name: &str, covered: u64) -> Result<(), Failure> {
    let id: SessionId = name.parse().map_err(Failure::integrity)?;
    let source = match File::open(log_path(site, &id)) {
        Ok(source) => source,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && covered == 0 => return Ok(()),
        Err(error) => return Err(Failure::integrity(format!("session {name}: its write log: {error}"))),
    };
    let path = dir.join(export::session_file(name));
    let fault = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
    let mut file = BufWriter::new(File::create(&path).map_err(fault)?);
    let mut lines = Lines::new(BufReader::with_capacity(BUFFER, source));
    for _ in 0..covered {
        let Some(line) = lines.read().map_err(Failure::failed)? else {
            return Err(Failure::integrity(format!("session {name}: {covered} entries are sealed, fewer are there")));
        };
        file.write_all(line).and_then(|()| file.write_all(b"\n")).map_err(fault)?;
    }
    file.flush().map_err(fault)
}

fn put(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let path = dir.join(name);
    fs::write(&path, bytes).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
}

/// Reads an export back as blobs, for the ref that clones carry.
pub fn collect(dir: &Path) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let files = Files::Directory(dir.to_owned());
    let mut names: Vec<String> = [LEDGER, CHECKPOINT, KEY, README].map(str::to_owned).to_vec();
    names.extend(files.list(SESSIONS)?);
    names.extend(files.list(CHARTERS)?);
    names
        .into_iter()
        .map(|name| files.read(&name).map(|bytes| (name, bytes)))
        .collect()
}

//! `export` and `verify --export`: the ledger as files that anybody can verify.
//!
//! Owns: writing them (to a new directory, or to the ref that clones carry) and reading
//! them back. Invariants: the checkpoint is signed over just the lines that were
//! written; an export that was cut short is never taken for a whole one, for the
//! checkpoint comes last.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::app::checkpoint;
use crate::app::failure::Failure;
use crate::app::keys;
use crate::app::live;
use crate::app::log::log_path;
use crate::app::site::Site;
use crate::app::verify::{REF, TRAILER};
use crate::domain::base::Oid;
use crate::domain::checkpoint::{Checkpoint, Note, PublicKey, SecretKey};
use crate::domain::command::Need;
use crate::domain::digest::Digest;
use crate::domain::entry::Chain;
use crate::domain::export::{self, Bound, CHARTERS, CHECKPOINT, KEY, LEDGER, README, SESSIONS};
use crate::domain::names::SessionId;
use crate::domain::path::check_name;
use crate::domain::proof::Tree;
use crate::domain::state::Kind;
pub use crate::store::exported::Verified;
use crate::store::exported::{self, ExportError};
use crate::store::writelog::read_log;

/// Verifies an export against the key that the auditor trusts and the checkpoints he kept.
pub fn audit(dir: &Path, key: Option<&PublicKey>, held: &[PathBuf]) -> Result<Verified, Failure> {
    let mut checkpoints = Vec::with_capacity(held.len());
    for path in held {
        let bytes = fs::read(path)
            .map_err(|error| Failure::missing(format!("{}: {error}", path.display())))?;
        let note = Note::parse(&bytes)
            .map_err(|error| Failure::integrity(format!("{}: {error}", path.display())))?;
        checkpoints.push(note.claimed().clone());
    }
    exported::verify(dir, key, &checkpoints).map_err(|error| match &error {
        ExportError::Fault(_) => Failure::integrity(&error),
        ExportError::Io { .. } => Failure::failed(&error),
    })
}

/// Writes the whole ledger to `dir`, signed.
pub fn export(site: &mut Site, dir: &Path) -> Result<Checkpoint, Failure> {
    refuse_other_things(site, dir)?;
    live::seal_all(site)?;
    let state = site
        .ledger
        .state(&[Need::All(Kind::Key), Need::All(Kind::Charter)])?;
    let (origin, key) = keys::signing(&state)?;
    for folder in [dir.to_owned(), dir.join(SESSIONS), dir.join(CHARTERS)] {
        fs::create_dir_all(&folder)
            .map_err(|error| Failure::failed(format!("{}: {error}", folder.display())))?;
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

/// Nothing but an earlier export of this ledger is written over: a README of somebody's
/// own would be gone, and what another ledger left would be no part of this export.
fn refuse_other_things(site: &mut Site, dir: &Path) -> Result<(), Failure> {
    let shown = dir.display();
    let fault = |error: io::Error| Failure::failed(format!("{shown}: {error}"));
    let is_empty = match fs::read_dir(dir) {
        Ok(mut names) => names.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(fault(error)),
    };
    let mut first = Vec::new();
    if !is_empty && let Ok(file) = File::open(dir.join(LEDGER)) {
        let mut file = BufReader::new(file);
        file.read_until(b'\n', &mut first).map_err(fault)?;
        first.pop();
    }
    let own = site.ledger.lines()?.line(0)?;
    if is_empty || own.is_some_and(|own| own == first) {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "{shown} is not empty, and no earlier export of this ledger"
    ))
    .hint("name a new directory"))
}

/// Signs what was written, and records the signature after it, where that may be recorded.
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
    if site.ledger.is_read_only() {
        return checkpoint::keep_copy(checkpoint, &note);
    }
    checkpoint::publish(site, checkpoint.clone(), key)?;
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
        bound.note(&line, leaf).map_err(|flaw| {
            crate::store::ledger::LedgerError::Damaged(format!("entry {}: {flaw}", line.seq))
        })?;
        written = file.write_all(bytes).and_then(|()| file.write_all(b"\n"));
        Ok(written.is_ok())
    })?;
    written.and_then(|()| file.flush()).map_err(fault)?;
    Ok((tree, bound))
}

fn export_session(site: &Site, dir: &Path, name: &str, covered: u64) -> Result<(), Failure> {
    let id: SessionId = name.parse().map_err(Failure::integrity)?;
    let mut lines = match read_log(&log_path(site, &id)) {
        Ok(lines) => lines,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && covered == 0 => return Ok(()),
        Err(error) => {
            return Err(Failure::integrity(format!(
                "session {name}: its write log: {error}"
            )));
        }
    };
    let path = dir.join(export::session_file(name));
    let fault = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
    let mut file = BufWriter::new(File::create(&path).map_err(fault)?);
    for _ in 0..covered {
        let Some(line) = lines.read().map_err(Failure::failed)? else {
            return Err(Failure::integrity(format!(
                "session {name}: {covered} entries are sealed, fewer are there"
            )));
        };
        file.write_all(line)
            .and_then(|()| file.write_all(b"\n"))
            .map_err(fault)?;
    }
    file.flush().map_err(fault)
}

fn put(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let path = dir.join(name);
    fs::write(&path, bytes).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
}

/// Reads an export back, for the ref that clones carry.
pub fn collect(dir: &Path) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut names: Vec<String> = [LEDGER, CHECKPOINT, KEY, README]
        .map(str::to_owned)
        .to_vec();
    for folder in [SESSIONS, CHARTERS] {
        for entry in fs::read_dir(dir.join(folder)).map_err(Failure::failed)? {
            let name = entry.map_err(Failure::failed)?.file_name();
            names.push(format!("{folder}/{}", name.to_string_lossy()));
        }
    }
    let read = |name: String| match fs::read(dir.join(&name)) {
        Ok(bytes) => Ok((name, bytes)),
        Err(error) => Err(Failure::failed(format!("{name}: {error}"))),
    };
    names.into_iter().map(read).collect()
}

/// Lays an export out as files again.
pub fn lay_out(files: &BTreeMap<String, Vec<u8>>, dir: &Path) -> Result<(), Failure> {
    for (name, bytes) in files {
        let plain = name
            .split('/')
            .all(|part| check_name(part.as_bytes()).is_ok());
        if !plain {
            return Err(Failure::integrity(format!(
                "{name:?} is no part of an export"
            )));
        }
        let path = dir.join(name);
        let parent = path.parent().unwrap_or(dir);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, bytes))
            .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    }
    Ok(())
}

/// Exports to the ref that CI and teammates fetch, and returns its commit.
pub fn export_ref(site: &mut Site) -> Result<(Checkpoint, Oid), Failure> {
    let dir = tempfile::tempdir().map_err(Failure::failed)?;
    let checkpoint = export(site, dir.path())?;
    let message = format!(
        "govfs ledger: {} entries\n\n{TRAILER}: {}\n",
        checkpoint.size,
        checkpoint.trailer()
    );
    let commit = site.repo.write_ref(REF, &collect(dir.path())?, &message)?;
    Ok((checkpoint, commit))
}

//! Exports on disk, verified: opens the files and feeds `domain::export`.
//!
//! Owns: walking an export's directory. Reads lines one at a time, so that an
//! export of any length is verified in little memory. Never writes.

use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::io;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use crate::domain::checkpoint::{Checkpoint, PublicKey};
use crate::domain::export;
use crate::domain::export::{Bound, ExportAudit, Fault, Flaw, end_session, session_file};
use crate::store::writelog::Lines;

const READ_BUFFER: usize = 256 << 10;
/// No checkpoint, key, README or charter is longer.
const SMALL_MAX: u64 = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// What an export proved to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub checkpoint: Checkpoint,
    pub sessions: u64,
    /// Entries of the ledger and of all write logs.
    pub entries: u64,
}

/// Verifies the export in `dir`. Its key has to be `trusted` where one is given,
/// and it has to continue every checkpoint of `held`, which were kept elsewhere.
pub fn verify(
    dir: &Path,
    trusted: Option<&PublicKey>,
    held: &[Checkpoint],
) -> Result<Verified, ExportError> {
    let folder = Folder { dir };
    let note = folder.small(export::CHECKPOINT)?;
    let key = folder.small(export::KEY)?;
    let mut audit = ExportAudit::new(&note, &key, trusted)?;
    held.iter().try_for_each(|held| audit.hold(held))?;
    folder.lines(export::LEDGER, |line| audit.ledger(line))?;
    let bound = audit.end()?;
    let mut verified = Verified {
        checkpoint: audit.checkpoint().clone(),
        sessions: 0,
        entries: audit.checkpoint().size,
    };
    for (session, covered) in bound.sessions() {
        verified.sessions += 1;
        verified.entries += folder.session(bound, session, covered)?;
    }
    folder.refuse_strangers(bound)?;
    for name in folder.names(export::CHARTERS)? {
        let file = format!("{}/{name}", export::CHARTERS);
        export::check_charter(&file, &folder.small(&file)?)?;
    }
    export::check_readme(&folder.small(export::README)?)?;
    Ok(verified)
}

struct Folder<'a> {
    dir: &'a Path,
}

impl Folder<'_> {
    fn open(&self, file: &str) -> Result<File, ExportError> {
        let path = self.dir.join(file);
        File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Fault::at(file, None, Flaw::Missing).into(),
            _ => ExportError::Io { path, source },
        })
    }

    fn io(&self, file: &str) -> impl Fn(io::Error) -> ExportError {
        let path = self.dir.join(file);
        move |source| ExportError::Io {
            path: path.clone(),
            source,
        }
    }

    fn small(&self, file: &str) -> Result<Vec<u8>, ExportError> {
        let mut bytes = Vec::new();
        let source = self.open(file)?;
        io::Read::read_to_end(&mut io::Read::take(source, SMALL_MAX), &mut bytes)
            .map_err(self.io(file))?;
        Ok(bytes)
    }

    /// Feeds every line; one without an end is a fault.
    fn lines(
        &self,
        file: &str,
        mut each: impl FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<(), ExportError> {
        let mut lines = Lines::new(BufReader::with_capacity(READ_BUFFER, self.open(file)?));
        let mut count = 0;
        while let Some(line) = lines.read().map_err(self.io(file))? {
            each(line)?;
            count += 1;
        }
        if lines.rest().is_empty() {
            return Ok(());
        }
        Err(Fault::at(file, Some(count), Flaw::Torn).into())
    }

    fn session(&self, bound: &Bound, session: &str, covered: u64) -> Result<u64, ExportError> {
        let file = session_file(session);
        let mut audit = bound.audit(session, &file)?;
        if covered > 0 || self.dir.join(&file).exists() {
            self.lines(&file, |line| audit.line(line).map(|_| ()))?;
        }
        Ok(end_session(&audit)?)
    }

    fn refuse_strangers(&self, bound: &Bound) -> Result<(), ExportError> {
        let known: BTreeSet<String> = bound
            .sessions()
            .map(|(name, _)| session_file(name))
            .collect();
        for name in self.names(export::SESSIONS)? {
            let file = format!("{}/{name}", export::SESSIONS);
            if !known.contains(&file) {
                return Err(Fault::at(&file, None, Flaw::Stranger).into());
            }
        }
        Ok(())
    }

    /// Returns the names in a directory, sorted; none where there is no directory.
    fn names(&self, file: &str) -> Result<Vec<String>, ExportError> {
        let entries = match fs::read_dir(self.dir.join(file)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.io(file)(error)),
        };
        let mut names = entries
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()
            .map_err(self.io(file))?;
        names.sort();
        Ok(names)
    }
}

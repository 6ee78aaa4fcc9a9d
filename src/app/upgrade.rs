//! Opening a store that an older govfs made.
//!
//! Owns: the rule that nothing is brought forward under a server that knows only the
//! older format. Every live server says in its `hello` which one it knows; one that
//! cannot be asked counts as older.
//! And: a ledger that is gone is not begun again over the sessions that it left.

use std::fs;
use std::path::Path;

use crate::app::control::{FORMAT, Live};
use crate::app::failure::Failure;
use crate::store::ledger::{FILE, Ledger, LedgerError};

/// Opens the store's ledger, and brings it forward where it is older and nobody serves it.
pub fn open(store: &Path) -> Result<Ledger, Failure> {
    match Ledger::open(store) {
        Err(LedgerError::Older { .. }) => {
            refuse_older_servers(store)?;
            Ok(Ledger::migrate(store)?)
        }
        Err(LedgerError::NotThere(path)) => {
            refuse_orphans(store)?;
            Err(LedgerError::NotThere(path).into())
        }
        other => Ok(other?),
    }
}

/// Refuses a store that has sessions and no ledger: somebody took it away. A new one
/// would give their names again, over what they wrote.
pub fn refuse_orphans(store: &Path) -> Result<(), Failure> {
    let ledger = store.join(FILE);
    let unread = |error| Failure::failed(format!("{}: {error}", ledger.display()));
    if ledger.try_exists().map_err(unread)? {
        return Ok(());
    }
    let sessions = match fs::read_dir(store.join("sessions")) {
        Ok(sessions) => sessions.count(),
        Err(_) => 0, // none were ever begun, or nothing here can be read
    };
    if sessions == 0 {
        return Ok(());
    }
    let (ledger, store) = (ledger.display(), store.display());
    Err(Failure::integrity(format!(
        "{ledger} is gone, but {sessions} of its sessions are there"
    ))
    .hint(format!(
        "put it back; or begin anew and keep what was: mv {store} {store}.lost, then govfs init"
    )))
}

fn refuse_older_servers(store: &Path) -> Result<(), Failure> {
    let Ok(sessions) = fs::read_dir(store.join("sessions")) else {
        return Ok(());
    };
    for entry in sessions {
        let entry = entry.map_err(Failure::failed)?;
        let session = entry.file_name().to_string_lossy().into_owned();
        let who = match Live::connect(&entry.path()) {
            Ok(None) => continue,
            Ok(Some(live)) if live.hello.format == FORMAT => continue,
            Ok(Some(live)) => format!(
                "process {} of govfs {} (format {})",
                live.hello.pid, live.hello.version, live.hello.format
            ),
            Err(error) => format!("a server that does not answer ({error})"),
        };
        return Err(Failure::machine(format!(
            "the ledger has an older format, and session {session} is served by {who}: nothing is brought forward under it"
        ))
        .hint("end that session's mount first: govfs unmount, with the govfs that mounted it"));
    }
    Ok(())
}

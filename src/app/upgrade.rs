//! Opening a store that an older govfs made.
//!
//! Owns: the rule that nothing is brought forward under a server that knows only the
//! older format. Every live server says in its `hello` which one it knows; one that
//! cannot be asked counts as older.

use std::fs;
use std::path::Path;

use crate::app::control::{FORMAT, Live};
use crate::app::failure::Failure;
use crate::store::ledger::{Ledger, LedgerError};

/// Opens the store's ledger, and brings it forward where it is older and nobody serves it.
pub fn open(store: &Path) -> Result<Ledger, Failure> {
    match Ledger::open(store) {
        Err(LedgerError::Older { .. }) => {
            refuse_older_servers(store)?;
            Ok(Ledger::migrate(store)?)
        }
        other => Ok(other?),
    }
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

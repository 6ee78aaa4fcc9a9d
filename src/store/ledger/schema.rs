//! The tables, their format number, and the connection's settings.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};

use super::{LedgerError, fault};

/// The store's format: an older govfs refuses a newer one.
pub const FORMAT: i64 = 3;
/// "gvfs": says whose database file this is.
const APPLICATION: i64 = 0x6776_6673;
/// The write-ahead log is folded back after this many pages, some ten commands, and not by
/// each that is the last to leave: that costs three more waits for the disk. Whoever comes
/// next reads what is there again, so it must not grow long.
const CHECKPOINT_PAGES: i64 = 128;

/// What a log of so many pages takes on disk: each has a header, and the log itself.
pub(super) const LOG_MAX: u64 = CHECKPOINT_PAGES.unsigned_abs() * (4096 + 24) + 32;

/// The triggers guard against accidents only; against everything else there is the chain.
const TABLES: &str = "
CREATE TABLE entry (
    seq  INTEGER PRIMARY KEY,
    line BLOB NOT NULL,
    leaf BLOB NOT NULL
) STRICT;
CREATE TRIGGER entry_stays BEFORE UPDATE ON entry
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER entry_lasts BEFORE DELETE ON entry
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TABLE tail (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    size     INTEGER NOT NULL,
    leaf     BLOB NOT NULL,
    ts       INTEGER,
    frontier BLOB NOT NULL
) STRICT;
CREATE TABLE item (
    kind TEXT NOT NULL,
    id   TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE waiter (
    ticket INTEGER PRIMARY KEY AUTOINCREMENT,
    agent  TEXT NOT NULL,
    mode   INTEGER NOT NULL,
    body   BLOB NOT NULL,
    pid    INTEGER NOT NULL,
    start  INTEGER NOT NULL,
    boot   TEXT NOT NULL
) STRICT;
";

/// The claims, with what tells their patterns apart at a glance; the two indexes that a
/// question walks along hold all that it compares.
pub(super) const CLAIMS: &str = "
CREATE TABLE claim (
    id       INTEGER PRIMARY KEY,
    agent    TEXT NOT NULL,
    mode     INTEGER NOT NULL,
    pattern  BLOB NOT NULL,
    prefix   BLOB NOT NULL,
    literal  INTEGER NOT NULL,
    head     BLOB NOT NULL,
    name     BLOB NOT NULL,
    tail     BLOB NOT NULL,
    boot     TEXT NOT NULL,
    boot_end INTEGER NOT NULL,
    ts_end   INTEGER NOT NULL,
    body     BLOB NOT NULL
) STRICT;
CREATE INDEX claim_prefix ON claim (prefix, mode, agent, literal, head, name, tail, pattern);
CREATE INDEX claim_tail ON claim (tail, mode, agent, literal, head, name, pattern);
CREATE INDEX claim_agent ON claim (agent, pattern);
CREATE INDEX claim_boot ON claim (boot, boot_end);
CREATE INDEX claim_time ON claim (ts_end);
";

/// Sets what holds for every connection.
pub(super) fn tune(connection: &Connection) -> Result<(), LedgerError> {
    let set = || -> rusqlite::Result<()> {
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        Ok(())
    };
    set().map_err(fault("open the ledger"))
}

/// Makes the tables where there are none yet; of two processes one does it.
pub(super) fn make(connection: &mut Connection) -> Result<(), LedgerError> {
    let doing = fault("make the ledger");
    if !is_empty(connection)? {
        return Ok(());
    }
    connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
        .map_err(&doing)?;
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(&doing)?;
    if is_empty(&transaction)? {
        transaction.execute_batch(TABLES).map_err(&doing)?;
        transaction.execute_batch(CLAIMS).map_err(&doing)?;
        let first = "INSERT INTO tail VALUES (1, 0, zeroblob(32), NULL, zeroblob(0))";
        transaction.execute(first, []).map_err(&doing)?;
        transaction
            .pragma_update(None, "application_id", APPLICATION)
            .map_err(&doing)?;
        transaction
            .pragma_update(None, "user_version", FORMAT)
            .map_err(&doing)?;
    }
    transaction.commit().map_err(&doing)
}

fn is_empty(connection: &Connection) -> Result<bool, LedgerError> {
    let count: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(fault("open the ledger"))?;
    Ok(count == 0)
}

/// Refuses what is not a ledger, a newer one, and an older one that was not brought forward.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), LedgerError> {
    let number = |name: &str| -> Result<i64, LedgerError> {
        connection
            .pragma_query_value(None, name, |row| row.get(0))
            .map_err(fault("open the ledger"))
    };
    if number("application_id")? != APPLICATION {
        return Err(LedgerError::Foreign(path.to_owned()));
    }
    match number("user_version")? {
        FORMAT => Ok(()),
        found if (1..FORMAT).contains(&found) => Err(LedgerError::Older {
            found,
            known: FORMAT,
        }),
        found => Err(LedgerError::Newer {
            found,
            known: FORMAT,
        }),
    }
}

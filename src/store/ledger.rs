//! The ledger in SQLite: one chain of lines, and the projections of its fold.
//!
//! Owns: the database, its transactions, and that the two never differ: a
//! [`Turn`] appends entries and writes the rows that their fold touched, in one
//! `BEGIN IMMEDIATE` transaction that is durable (WAL, FULL) when it returns.
//! Invariants: the bytes of a line are stored as they were hashed and are never
//! written again; a transaction that fails leaves the ledger as it was; nobody
//! is ever told that the database is locked while another one works. Loads only
//! the rows that a decision needs. The newest entries may still stand in the `-wal`
//! beside the file: a copy takes both. Never decides, and never reads a clock.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::domain::entry::{ChainFault, EntryFault};
use crate::domain::event::EventError;
use crate::domain::path::percent_encode;
use crate::domain::state::{Known, RowError, State};

mod candidates;
mod lines;
mod migrate;
mod rows;
mod schema;
mod turn;
mod waiters;

pub use lines::Lines;
pub use schema::FORMAT;
pub use turn::Turn;
pub use waiters::{Process, Waiter};

#[cfg(test)]
mod tests;

/// The database's name inside the store.
pub const FILE: &str = "ledger.db";
/// How long one process waits for the others before it gives up.
const PATIENCE: Duration = Duration::from_mins(2);
/// The longest nap between two tries.
const NAP_MAX_MS: u64 = 8;

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("there is no ledger at {}", .0.display())]
    NotThere(PathBuf),
    #[error("{} is not a govfs ledger", .0.display())]
    Foreign(PathBuf),
    #[error("the ledger has format {found}; this govfs knows {known}")]
    Newer { found: i64, known: i64 },
    #[error("the ledger has the older format {found}; this govfs writes {known}")]
    Older { found: i64, known: i64 },
    #[error("the disk is full: nothing was recorded")]
    Full,
    #[error("the ledger cannot be written, nothing was recorded: {0}")]
    ReadOnly(String),
    #[error("the ledger stayed busy for {} seconds: nothing was recorded", PATIENCE.as_secs())]
    Busy,
    #[error("the ledger is damaged: {0}")]
    Damaged(String),
    #[error("{doing}: {what}: nothing was recorded")]
    Sqlite { doing: &'static str, what: String },
    #[error("the ledger's last entry does not fit its projections: {0}")]
    Tail(String),
    #[error(transparent)]
    Row(#[from] RowError),
    #[error(transparent)]
    Event(#[from] EventError),
    #[error(transparent)]
    Chain(#[from] ChainFault),
    #[error(transparent)]
    Entry(#[from] EntryFault),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// What a caller's callback gave.
    #[error("{0}")]
    Stopped(String),
}

/// Says which of our own errors a SQLite error is.
pub(super) fn fault(doing: &'static str) -> impl Fn(rusqlite::Error) -> LedgerError {
    move |error| {
        let what = error.to_string();
        // No room for the index of the write-ahead log: SQLite calls that an I/O error.
        let code = error.sqlite_error().map(|error| error.extended_code);
        if code == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE) {
            return LedgerError::Full;
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => LedgerError::Full,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                LedgerError::ReadOnly(what)
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => LedgerError::Busy,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                LedgerError::Damaged(what)
            }
            _ => LedgerError::Sqlite { doing, what },
        }
    }
}

/// A ledger, open once something is asked of it.
#[derive(Debug)]
pub struct Ledger {
    connection: Option<Connection>,
    path: PathBuf,
    /// The charter that was read last.
    known: Known,
}

impl Ledger {
    /// Makes the store's directory and an empty ledger, or opens the one that is there.
    pub fn create(store: &Path) -> Result<Self, LedgerError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(store).map_err(|source| LedgerError::Io {
            path: store.to_owned(),
            source,
        })?;
        let path = store.join(FILE);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = connect(&path, flags)?;
        schema::make(&mut connection)?;
        schema::check(&connection, &path)?;
        Ok(Self::over(connection, path))
    }

    /// The ledger of a store, not opened before it is needed.
    pub fn closed(store: &Path) -> Self {
        Self {
            connection: None,
            path: store.join(FILE),
            known: Known::default(),
        }
    }

    fn over(connection: Connection, path: PathBuf) -> Self {
        Self {
            connection: Some(connection),
            path,
            known: Known::default(),
        }
    }

    pub fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    /// Opens the ledger of a store; one that may not be written can be read.
    pub fn open(store: &Path) -> Result<Self, LedgerError> {
        let mut ledger = Self::closed(store);
        ledger.connection()?;
        Ok(ledger)
    }

    /// Says whether nothing can be appended here, whoever asks.
    pub fn is_read_only(&self) -> bool {
        let read_only = |connection: &Connection| connection.is_readonly("main");
        self.connection
            .as_ref()
            .is_some_and(|connection| read_only(connection).unwrap_or(false))
    }

    /// Opens a ledger and brings an older format forward: the projections, never an entry.
    pub fn migrate(store: &Path) -> Result<Self, LedgerError> {
        let path = store.join(FILE);
        let mut connection = existing(&path)?;
        migrate::forward(&mut connection)?;
        schema::check(&connection, &path)?;
        Ok(Self::over(connection, path))
    }

    fn connection(&mut self) -> Result<&mut Connection, LedgerError> {
        match &mut self.connection {
            Some(connection) => Ok(connection),
            none => Ok(none.insert(checked(&self.path)?)),
        }
    }

    /// Begins a turn: everything in it happens at once, or not at all.
    pub fn turn(
        &mut self,
        clock: &dyn Fn() -> crate::domain::time::Now,
    ) -> Result<Turn<'_>, LedgerError> {
        let state = State::knowing(&self.known);
        let transaction = self
            .connection()?
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(fault("begin"))?;
        Turn::begin(transaction, state, clock)
    }

    /// Returns a number that changes when another process has changed the ledger.
    pub fn pulse(&mut self) -> Result<i64, LedgerError> {
        self.connection()?
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(fault("look at the ledger"))
    }

    /// Returns the size of the database in bytes, with what is not folded back yet.
    pub fn bytes(&self) -> u64 {
        let size = |path: PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
        let sizes = ["", "-wal"].map(|end| size(beside(&self.path, end)));
        sizes.iter().sum()
    }
}

impl Drop for Ledger {
    /// Leaves a short log behind. What was folded back is known only as long as somebody has
    /// the ledger open, so a long one must begin anew before the last has gone; where others
    /// are at work it is theirs to do, and a failure changes nothing.
    fn drop(&mut self) {
        let log = fs::metadata(beside(&self.path, "-wal"));
        if self.is_read_only() || log.map_or(true, |meta| meta.len() < schema::LOG_MAX) {
            return;
        }
        let Some(connection) = &self.connection else {
            return;
        };
        let _ = connection.busy_timeout(Duration::ZERO);
        let again = "PRAGMA wal_checkpoint(TRUNCATE)";
        let _ = connection.query_row(again, [], |_| Ok(()));
    }
}

/// Opens a ledger of this format; one that may not be written can be read.
fn checked(path: &Path) -> Result<Connection, LedgerError> {
    let opened = existing(path).and_then(|connection| {
        schema::check(&connection, path)?;
        Ok(connection)
    });
    match opened {
        // No index of the write-ahead log can be made here; where nothing waits in
        // that log, nobody writes, and the file alone is the whole.
        Err(LedgerError::ReadOnly(_)) if is_folded_back(path) => still(path),
        opened => opened,
    }
}

/// Opens a file that nobody can be writing, as it lies there.
fn still(path: &Path) -> Result<Connection, LedgerError> {
    let name = percent_encode(path.as_os_str().as_encoded_bytes());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let uri = format!("file:{name}?immutable=1");
    let connection = Connection::open_with_flags(uri, flags).map_err(fault("open the ledger"))?;
    schema::check(&connection, path)?;
    Ok(connection)
}

fn existing(path: &Path) -> Result<Connection, LedgerError> {
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Err(LedgerError::NotThere(path.to_owned())),
        Err(source) => {
            let path = path.to_owned();
            return Err(LedgerError::Io { path, source });
        }
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    connect(path, flags)
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, LedgerError> {
    let mut connection =
        Connection::open_with_flags(path, flags).map_err(fault("open the ledger"))?;
    connection
        .busy_handler(Some(nap))
        .map_err(fault("open the ledger"))?;
    connection.set_prepared_statement_cache_capacity(64);
    schema::tune(&connection)?;
    Ok(connection)
}

/// Says whether all entries are in the database file itself.
fn is_folded_back(path: &Path) -> bool {
    fs::metadata(beside(path, "-wal")).map_or(true, |meta| meta.len() == 0)
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// Waits while another process has its turn. SQLite counts the tries; naps grow
/// to `NAP_MAX_MS`, and differ between processes so that nobody starves.
fn nap(tries: i32) -> bool {
    let tries = u64::try_from(tries).unwrap_or(0);
    if tries * NAP_MAX_MS > u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX) {
        return false;
    }
    let spread = u64::from(std::process::id()) % 3;
    std::thread::sleep(Duration::from_millis(
        (tries / 2 + 1 + spread).min(NAP_MAX_MS),
    ));
    true
}

//! The queue of those who wait for claims: live state, no part of the ledger.
//!
//! A waiter is a process; one that has died is swept out by the next to look.

use rusqlite::{Connection, params};

use super::turn::{integer, natural};
use super::{LedgerError, Lines, Turn, fault, rows};
use crate::domain::claim::wait::Waiting;
use crate::domain::event::Mode;
use crate::domain::names::AgentName;
use crate::domain::pattern::Pattern;

/// A process, so that a reused number is not taken for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    /// Ticks since boot.
    pub start: u64,
    pub boot: String,
}

/// Somebody in the queue.
#[derive(Clone, Debug)]
pub struct Waiter {
    pub waiting: Waiting,
    pub process: Process,
}

impl Lines<'_> {
    /// Returns the queue in order, those left out whose process is gone.
    pub fn queue(&self, alive: &dyn Fn(&Process) -> bool) -> Result<Vec<Waiting>, LedgerError> {
        let waiters = waiters(self.connection())?.into_iter();
        let living = waiters.filter(|waiter| alive(&waiter.process));
        Ok(living.map(|waiter| waiter.waiting).collect())
    }
}

impl Turn<'_> {
    /// Returns the queue in order, without those whose process is gone.
    pub fn queue(&self, alive: &dyn Fn(&Process) -> bool) -> Result<Vec<Waiting>, LedgerError> {
        let mut queue = Vec::new();
        for waiter in waiters(self.transaction())? {
            if alive(&waiter.process) {
                queue.push(waiter.waiting);
            } else {
                self.leave(waiter.waiting.ticket)?;
            }
        }
        Ok(queue)
    }

    /// Takes a place at the end of the queue.
    pub fn join(
        &self,
        agent: &AgentName,
        mode: Mode,
        patterns: &[Pattern],
        process: &Process,
    ) -> Result<u64, LedgerError> {
        let body = serde_json::to_vec(patterns).map_err(|error| LedgerError::Sqlite {
            doing: "join the queue",
            what: error.to_string(),
        })?;
        self.transaction()
            .prepare_cached(
                "INSERT INTO waiter (agent, mode, body, pid, start, boot) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )
            .and_then(|mut insert| {
                insert.execute(params![
                    agent.as_str(),
                    rows::mode_number(mode),
                    body,
                    process.pid,
                    integer(process.start),
                    process.boot
                ])
            })
            .map_err(fault("join the queue"))?;
        Ok(natural(self.transaction().last_insert_rowid()))
    }

    /// Gives up a place.
    pub fn leave(&self, ticket: u64) -> Result<(), LedgerError> {
        self.transaction()
            .prepare_cached("DELETE FROM waiter WHERE ticket = ?1")
            .and_then(|mut delete| delete.execute(params![integer(ticket)]))
            .map(drop)
            .map_err(fault("leave the queue"))
    }
}

fn waiters(connection: &Connection) -> Result<Vec<Waiter>, LedgerError> {
    let doing = fault("read the queue");
    let mut select = connection
        .prepare_cached(
            "SELECT ticket, agent, mode, body, pid, start, boot FROM waiter ORDER BY ticket",
        )
        .map_err(&doing)?;
    let mut found = select.query([]).map_err(&doing)?;
    let mut waiters = Vec::new();
    while let Some(row) = found.next().map_err(&doing)? {
        let damaged = |what: String| LedgerError::Damaged(format!("the queue: {what}"));
        let agent: String = row.get(1).map_err(&doing)?;
        let body: Vec<u8> = row.get(3).map_err(&doing)?;
        let waiting = Waiting {
            ticket: natural(row.get(0).map_err(&doing)?),
            agent: agent
                .parse()
                .map_err(|error: crate::domain::names::NameError| damaged(error.to_string()))?,
            mode: rows::mode_of(row.get(2).map_err(&doing)?),
            patterns: serde_json::from_slice(&body).map_err(|error| damaged(error.to_string()))?,
        };
        let process = Process {
            pid: row.get(4).map_err(&doing)?,
            start: natural(row.get(5).map_err(&doing)?),
            boot: row.get(6).map_err(&doing)?,
        };
        waiters.push(Waiter { waiting, process });
    }
    Ok(waiters)
}

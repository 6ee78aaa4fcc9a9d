//! The projections: rows in and out.
//!
//! Beside each claim stand the ends of its pattern, by which [`candidates`] finds
//! those that a request can meet without compiling the others.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use super::turn::{integer, natural};
use super::{LedgerError, candidates, fault};
use crate::domain::command::Need;
use crate::domain::event::Mode;
use crate::domain::names::AgentName;
use crate::domain::pattern::Ends;
use crate::domain::state::{ClaimRow, Kind, RowError, RowKey, State};
use crate::domain::time::Now;

/// Loads the meta row and the charter in force.
pub(super) fn load_law(connection: &Connection, state: &mut State) -> Result<(), LedgerError> {
    load_row(connection, &RowKey::meta(), state)?;
    if let Some(digest) = state.meta.charter {
        load_row(connection, &RowKey::new(Kind::Charter, &digest), state)?;
    }
    Ok(())
}

/// Loads the claims whose time is over, and their holders.
pub(super) fn load_due(
    connection: &Connection,
    now: &Now,
    state: &mut State,
) -> Result<(), LedgerError> {
    // Said outright: in a union the planner reads all claims to have them in order.
    let sql = "SELECT id, body FROM claim INDEXED BY claim_boot \
               WHERE boot = ?1 AND boot_end <= ?2";
    load_claims(
        connection,
        sql,
        params![now.boot, integer(now.boot_ms)],
        state,
    )?;
    let sql = "SELECT id, body FROM claim INDEXED BY claim_time \
               WHERE ts_end <= ?1 AND boot <> ?2";
    load_claims(connection, sql, params![now.ts.0, now.boot], state)?;
    let holders: BTreeSet<AgentName> = state
        .claims
        .values()
        .map(|claim| claim.agent.clone())
        .collect();
    for holder in holders {
        load_row(connection, &RowKey::new(Kind::Agent, &holder), state)?;
    }
    Ok(())
}

/// Loads what is needed; rows that this turn has already changed stay as they are.
pub(super) fn load(
    connection: &Connection,
    need: &Need,
    touched: &BTreeSet<RowKey>,
    state: &mut State,
) -> Result<(), LedgerError> {
    match need {
        Need::Row(key) if touched.contains(key) => Ok(()),
        Need::Row(key) => load_row(connection, key, state),
        Need::Agent(agent) => {
            let key = RowKey::new(Kind::Agent, agent);
            if !touched.contains(&key) {
                load_row(connection, &key, state)?;
            }
            match state.open_session_id(agent) {
                Some(session) => {
                    let key = RowKey::new(Kind::Session, session);
                    load(connection, &Need::Row(key), touched, state)
                }
                None => Ok(()),
            }
        }
        Need::All(kind) => load_all(connection, *kind, touched, state),
        Need::ClaimsOf(agent) => {
            let sql = "SELECT id, body FROM claim WHERE agent = ?1";
            keeping(touched, state, |state| {
                load_claims(connection, sql, params![agent.as_str()], state)
            })
        }
        Need::Claims {
            agent,
            mode,
            patterns,
        } => keeping(touched, state, |state| {
            for pattern in patterns {
                let sql = "SELECT id, body FROM claim WHERE agent = ?1 AND pattern = ?2";
                load_claims(
                    connection,
                    sql,
                    params![agent.as_str(), pattern.source()],
                    state,
                )?;
                candidates::load(connection, agent, *mode, pattern, state)?;
            }
            Ok(())
        }),
    }
}

/// Loads claims, but none that this turn has ended or changed.
fn keeping(
    touched: &BTreeSet<RowKey>,
    state: &mut State,
    read: impl FnOnce(&mut State) -> Result<(), LedgerError>,
) -> Result<(), LedgerError> {
    let mut fresh = State::default();
    read(&mut fresh)?;
    for (id, claim) in fresh.claims {
        if !touched.contains(&RowKey::new(Kind::Claim, &id)) {
            state.claims.insert(id, claim);
        }
    }
    Ok(())
}

fn load_row(connection: &Connection, key: &RowKey, state: &mut State) -> Result<(), LedgerError> {
    let body: Option<Vec<u8>> = match key.kind {
        Kind::Claim => one(
            connection,
            "SELECT body FROM claim WHERE id = ?1",
            params![key.id],
        )?,
        kind => one(
            connection,
            "SELECT body FROM item WHERE kind = ?1 AND id = ?2",
            params![kind.text(), key.id],
        )?,
    };
    if let Some(body) = body {
        state.load(key, &body)?;
    }
    Ok(())
}

fn one(
    connection: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
) -> Result<Option<Vec<u8>>, LedgerError> {
    connection
        .prepare_cached(sql)
        .and_then(|mut select| {
            let mut rows = select.query(values)?;
            rows.next()?.map(|row| row.get(0)).transpose()
        })
        .map_err(fault("read a row"))
}

fn load_all(
    connection: &Connection,
    kind: Kind,
    touched: &BTreeSet<RowKey>,
    state: &mut State,
) -> Result<(), LedgerError> {
    if kind == Kind::Claim {
        return keeping(touched, state, |state| {
            load_claims(connection, "SELECT id, body FROM claim", [], state)
        });
    }
    let rows = all_of(connection, kind)?;
    for (key, body) in rows {
        if !touched.contains(&key) {
            state.load(&key, &body)?;
        }
    }
    Ok(())
}

/// Returns every stored row of a kind.
pub(super) fn all_of(
    connection: &Connection,
    kind: Kind,
) -> Result<Vec<(RowKey, Vec<u8>)>, LedgerError> {
    let (sql, values): (&str, Vec<&str>) = if kind == Kind::Claim {
        ("SELECT CAST(id AS TEXT), body FROM claim", vec![])
    } else {
        (
            "SELECT id, body FROM item WHERE kind = ?1",
            vec![kind.text()],
        )
    };
    connection
        .prepare_cached(sql)
        .and_then(|mut select| {
            let rows = select.query_map(rusqlite::params_from_iter(values), |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))
            })?;
            rows.map(|row| row.map(|(id, body)| (RowKey { kind, id }, body)))
                .collect()
        })
        .map_err(fault("read rows"))
}

pub(super) fn load_claims(
    connection: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
    state: &mut State,
) -> Result<(), LedgerError> {
    let rows: Vec<(i64, Vec<u8>)> = connection
        .prepare_cached(sql)
        .and_then(|mut select| {
            select
                .query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
        .map_err(fault("read claims"))?;
    for (id, body) in rows {
        state.load(&RowKey::new(Kind::Claim, &natural(id)), &body)?;
    }
    Ok(())
}

pub(super) fn mode_number(mode: Mode) -> i64 {
    match mode {
        Mode::Read => 0,
        Mode::Write => 1,
    }
}

pub(super) fn mode_of(number: i64) -> Mode {
    if number == 0 { Mode::Read } else { Mode::Write }
}

/// Writes one row as the fold left it, or removes it.
pub(super) fn save(
    connection: &Connection,
    key: &RowKey,
    state: &State,
) -> Result<(), LedgerError> {
    let body = state.row(key)?;
    if key.kind == Kind::Claim {
        return save_claim(connection, key, body, state);
    }
    let done = match body {
        Some(body) => connection
            .prepare_cached(
                "INSERT INTO item (kind, id, body) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
            )
            .and_then(|mut write| write.execute(params![key.kind.text(), key.id, body])),
        None => connection
            .prepare_cached("DELETE FROM item WHERE kind = ?1 AND id = ?2")
            .and_then(|mut write| write.execute(params![key.kind.text(), key.id])),
    };
    done.map(drop).map_err(fault("write a row"))
}

fn save_claim(
    connection: &Connection,
    key: &RowKey,
    body: Option<Vec<u8>>,
    state: &State,
) -> Result<(), LedgerError> {
    let id: u64 = key.id.parse().map_err(|_| RowError {
        kind: key.kind.text(),
        id: key.id.clone(),
        what: "not a claim's number".to_owned(),
    })?;
    let done = match (body, state.claims.get(&id)) {
        (Some(body), Some(claim)) => insert_claim(connection, claim, &body),
        _ => connection
            .prepare_cached("DELETE FROM claim WHERE id = ?1")
            .and_then(|mut write| write.execute(params![integer(id)])),
    };
    done.map(drop).map_err(fault("write a claim"))
}

/// Says whether a claim is found by what its entry says: the columns beside the
/// body decide which claims a question loads at all.
pub(super) fn claim_is_indexed(
    connection: &Connection,
    claim: &ClaimRow,
) -> Result<bool, LedgerError> {
    let boot_end = claim.lease.boot_ms.saturating_add(claim.lease.ttl_ms);
    let Ends { head, name, tail } = claim.pattern.ends();
    let found: Option<Vec<u8>> = one(
        connection,
        "SELECT body FROM claim WHERE id IS ?1 AND agent IS ?2 AND mode IS ?3 AND pattern IS ?4 \
         AND prefix IS ?5 AND boot IS ?6 AND boot_end IS ?7 AND ts_end IS ?8 AND literal IS ?9 \
         AND head IS ?10 AND name IS ?11 AND tail IS ?12",
        params![
            integer(claim.id),
            claim.agent.as_str(),
            mode_number(claim.mode),
            claim.pattern.source(),
            claim.pattern.literal_prefix().as_bytes(),
            claim.lease.boot,
            integer(boot_end),
            claim.lease.expires().0,
            claim.pattern.is_literal(),
            head,
            name,
            tail
        ],
    )?;
    Ok(found.is_some())
}

pub(super) fn insert_claim(
    connection: &Connection,
    claim: &ClaimRow,
    body: &[u8],
) -> rusqlite::Result<usize> {
    let boot_end = claim.lease.boot_ms.saturating_add(claim.lease.ttl_ms);
    let Ends { head, name, tail } = claim.pattern.ends();
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO claim \
             (id, agent, mode, pattern, prefix, boot, boot_end, ts_end, body, literal, head, name, tail) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            integer(claim.id),
            claim.agent.as_str(),
            mode_number(claim.mode),
            claim.pattern.source(),
            claim.pattern.literal_prefix().as_bytes(),
            claim.lease.boot,
            integer(boot_end),
            claim.lease.expires().0,
            body,
            claim.pattern.is_literal(),
            head,
            name,
            tail
        ])
}

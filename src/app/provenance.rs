//! `export --provenance`: what the ledger knows of each merge, in formats that others read.
//!
//! Owns: one Agent Trace 0.1.0 record and one in-toto statement (SLSA provenance) a
//! merge. Both are claims; what makes them checkable is the merge's entry, which each
//! carries whole, with its inclusion proof under the export's checkpoint.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::app::failure::Failure;
use crate::app::prove::{Inclusion, include};
use crate::app::site::Site;
use crate::domain::checkpoint::Checkpoint;
use crate::domain::command::Need;
use crate::domain::digest::Digest;
use crate::domain::entry::{Line, leaf};
use crate::domain::event::{Decision, Entry, Event, Merged};
use crate::domain::export::{AGENT_TRACE, IN_TOTO, PROVENANCE};
use crate::domain::state::{Kind, State};

/// One merge, its entry and the proof of it.
struct Told<'a> {
    entry: &'a Entry,
    body: &'a Merged,
    commit: String,
    agent: &'a str,
    proof: Value,
    origin: String,
}

/// Writes both files; every merge that the checkpoint covers has a line in each.
pub fn write(site: &mut Site, dir: &Path, checkpoint: &Checkpoint) -> Result<usize, Failure> {
    let folder = dir.join(PROVENANCE);
    let fault = |error: std::io::Error| Failure::failed(format!("{}: {error}", folder.display()));
    fs::create_dir_all(&folder).map_err(fault)?;
    let state = site.ledger.state(&[Need::All(Kind::Agent)])?;
    let (leaves, merges) = merges(site, checkpoint)?;
    let (mut traces, mut statements) = (String::new(), String::new());
    for (line, entry) in &merges {
        let Event::Merge(body) = &entry.event else {
            continue;
        };
        let proof = include(&leaves, line.clone(), entry.seq)?;
        let told = Told {
            entry,
            body,
            commit: body.commit.map(|oid| oid.to_string()).unwrap_or_default(),
            agent: entry.agent.as_ref().map_or("", |agent| agent.as_str()),
            proof: proof_of(&proof, checkpoint),
            origin: checkpoint.origin.to_string(),
        };
        let _ = writeln!(traces, "{}", trace(site, &told, &state)?);
        let _ = writeln!(statements, "{}", statement(&told));
    }
    fs::write(dir.join(AGENT_TRACE), traces).map_err(fault)?;
    fs::write(dir.join(IN_TOTO), statements).map_err(fault)?;
    Ok(merges.len())
}

/// Returns the leaves that the checkpoint covers, and the merges among them.
#[expect(clippy::type_complexity, reason = "used once, just above")]
fn merges(
    site: &mut Site,
    checkpoint: &Checkpoint,
) -> Result<(Vec<Digest>, Vec<(Vec<u8>, Entry)>), Failure> {
    let (mut leaves, mut found) = (Vec::new(), Vec::new());
    site.ledger.lines()?.forward(0, &mut |seq, bytes| {
        if seq >= checkpoint.size {
            return Ok(false);
        }
        let hash = leaf(bytes);
        leaves.push(hash);
        let line = Line::parse(bytes)?;
        if line.op == "merge" {
            let entry = Entry::from_line(&line, hash)?;
            if matches!(&entry.event, Event::Merge(body) if body.decision == Decision::Allow) {
                found.push((bytes.to_vec(), entry));
            }
        }
        Ok(true)
    })?;
    Ok((leaves, found))
}

fn proof_of(proof: &Inclusion, checkpoint: &Checkpoint) -> Value {
    json!({
        "origin": checkpoint.origin,
        "size": proof.size,
        "root": proof.root,
        "index": proof.index,
        "leaf": proof.leaf,
        "hashes": proof.hashes,
        "line": String::from_utf8_lossy(&proof.line),
    })
}

/// An Agent Trace 0.1.0 record: which lines of which files are whose.
fn trace(site: &Site, told: &Told<'_>, state: &State) -> Result<Value, Failure> {
    let row = told
        .entry
        .agent
        .as_ref()
        .and_then(|agent| state.agents.get(agent));
    let kind = match row {
        Some(row) if row.person => "human",
        Some(_) => "ai",
        None => "unknown",
    };
    let mut files = Vec::new();
    if let Some(commit) = told.body.commit {
        for file in site.repo.changed_lines(told.body.onto, commit)? {
            let ranges: Vec<Value> = file
                .ranges
                .iter()
                .map(|(first, last)| json!({"start_line": first, "end_line": last}))
                .collect();
            files.push(json!({
                "path": file.path.encode(),
                "conversations": [{"contributor": {"type": kind}, "ranges": ranges}],
            }));
        }
    }
    Ok(json!({
        "version": "0.1.0",
        "id": identity(&told.entry.leaf),
        "timestamp": told.entry.ts,
        "vcs": {"type": "git", "revision": told.commit},
        "tool": {"name": "govfs", "version": env!("CARGO_PKG_VERSION")},
        "files": files,
        "metadata": {"govfs": {
            "agent": told.agent,
            "engine": row.and_then(|row| row.engine.clone()),
            "session": told.entry.session,
            "plan": told.body.plan,
            "proof": told.proof,
        }},
    }))
}

/// A name for the record that is the same in every export: the leaf's first bytes as a UUID (version 8).
fn identity(leaf: &Digest) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&leaf.0[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// An in-toto statement: what the merge made, from what, and by whom.
fn statement(told: &Told<'_>) -> Value {
    let mut subject = vec![json!({
        "name": told.body.branch,
        "digest": {"gitCommit": told.commit},
    })];
    let paths = told.body.paths.iter().filter_map(|path| {
        let digest = path.sha256.as_ref()?;
        Some(json!({"name": path.path.encode(), "digest": {"sha256": digest}}))
    });
    subject.extend(paths);
    let checks: Vec<Value> = told
        .body
        .checks
        .iter()
        .map(|check| json!({"name": check.name, "passed": check.passed}))
        .collect();
    let from = |name: &str, oid: String| json!({"name": name, "digest": {"gitCommit": oid}});
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subject,
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "https://govfs.invalid/merge/v1",
                "externalParameters": {
                    "agent": told.agent,
                    "session": told.entry.session,
                    "branch": told.body.branch,
                    "plan": told.body.plan,
                },
                "internalParameters": {
                    "tier": told.body.tier,
                    "checks": checks,
                    "reviews": told.body.reviews,
                },
                "resolvedDependencies": [
                    from("base", told.body.base.to_string()),
                    from("onto", told.body.onto.to_string()),
                ],
            },
            "runDetails": {
                "builder": {"id": format!("https://govfs.invalid/ledger/{}", told.origin)},
                "metadata": {
                    "invocationId": format!("{}#{}", told.origin, told.entry.seq),
                    "finishedOn": told.entry.ts,
                },
                "byproducts": [{"name": "inclusion-proof", "annotations": told.proof}],
            },
        },
    })
}

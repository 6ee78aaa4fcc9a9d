//! `govfs` inside a mount: questions through the control zone, and their answers.
//!
//! Owns: the protocol between the two ends (one JSON document each way), and what
//! an agent may have at once: within its role's paths, for no longer than the charter
//! gives. The agent is the one whose mount it is, never one that the question names.
//! What it cannot have at once becomes a request that a person answers.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::claim::{self, Answer as ClaimAnswer, Patience};
use crate::app::failure::{Failure, Kind};
use crate::app::requests::{self, Wish};
use crate::app::session::{self, Session};
use crate::app::site::Site;
use crate::app::status;
use crate::app::why::{self, Explained};
use crate::domain::claim::{Ask as ClaimAsk, part};
use crate::domain::command::{Need, No, Refusal};
use crate::domain::event::{Conflict, Mode};
use crate::domain::names::AgentName;
use crate::domain::path::{RepoPath, percent_decode};
use crate::domain::pattern::Pattern;
use crate::domain::request::Standing;
use crate::domain::state::{ClaimRow, Kind as RowKind, RowKey, State};

pub mod client;

/// What may be asked from inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// Patterns are percent-encoded.
    Claim {
        patterns: Vec<String>,
        read: bool,
        ttl_ms: Option<u64>,
        reason: String,
    },
    Release {
        patterns: Vec<String>,
    },
    Why {
        path: RepoPath,
        agent: Option<AgentName>,
    },
    Status,
    Submit {
        message: String,
    },
}

/// The answer: what was found or done, or a failure with its exit kind, or both.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reply {
    pub code: u8,
    pub error: Option<String>,
    pub hint: Option<String>,
    /// How long claims last that were asked for longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_ms: Option<u64>,
    pub found: Found,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    Nothing,
    Claims(Vec<ClaimRow>),
    /// What was had at once; why not the rest, and under which number a person will find it.
    Asked {
        #[serde(default)]
        claims: Vec<ClaimRow>,
        rule: String,
        conflicts: Vec<Conflict>,
        request: Option<u64>,
    },
    Released(Vec<Pattern>),
    Why(Box<Explained>),
    /// As `status` has it outside, of this session alone; and in lines.
    Status {
        document: Value,
        lines: Vec<String>,
    },
    Submitted(u64),
}

impl Reply {
    fn found(found: Found) -> Self {
        Self {
            code: 0,
            error: None,
            hint: None,
            cut_ms: None,
            found,
        }
    }

    fn failed(failure: &Failure, found: Found) -> Self {
        Self {
            code: failure.kind.code(),
            error: Some(failure.message.clone()),
            hint: failure.hint.clone(),
            cut_ms: None,
            found,
        }
    }
}

/// Answers one request of the session's own agent.
pub fn answer(dir: &Path, session: &Session, request: &[u8]) -> Vec<u8> {
    let reply = match serde_json::from_slice::<Question>(request) {
        Ok(question) => Desk { session, dir }
            .answer(question)
            .unwrap_or_else(|failure| Reply::failed(&failure, Found::Nothing)),
        Err(error) => {
            let failure = Failure::new(Kind::Usage, format!("not a request: {error}"));
            Reply::failed(&failure, Found::Nothing)
        }
    };
    serde_json::to_vec(&reply).unwrap_or_default()
}

/// Who asks, and what is at hand to answer.
struct Desk<'a> {
    session: &'a Session,
    dir: &'a Path,
}

impl Desk<'_> {
    fn answer(&self, question: Question) -> Result<Reply, Failure> {
        let mut site = Site::open(self.dir)?;
        match question {
            Question::Claim {
                patterns,
                read,
                ttl_ms,
                reason,
            } => {
                let mode = if read { Mode::Read } else { Mode::Write };
                let patterns = self.own(&mut site, decoded(&patterns)?)?;
                let mut ask = ClaimAsk::new(self.session.agent.clone(), mode, patterns);
                ask.ttl_ms = ttl_ms;
                self.claim(&mut site, ask, reason)
            }
            Question::Release { patterns } => {
                let patterns = self.own(&mut site, decoded(&patterns)?)?;
                let freed = claim::release(&mut site, &self.session.agent, &patterns)?;
                Ok(Reply::found(Found::Released(freed)))
            }
            Question::Why { path, agent } => {
                if agent.is_some_and(|agent| agent != self.session.agent) {
                    return Err(self.only_oneself());
                }
                let why = why::why(&mut site, &path, Some(&self.session.agent))?;
                let why = why.explained(Some(self.session.agent.clone()));
                Ok(Reply::found(Found::Why(Box::new(why))))
            }
            Question::Status => self.status(&mut site),
            Question::Submit { message } => self.submit(&mut site, message),
        }
    }

    /// Takes the agent's own name from the front, as it stands in the command outside.
    fn own(&self, site: &mut Site, mut texts: Vec<OsString>) -> Result<Vec<Pattern>, Failure> {
        if texts
            .first()
            .is_some_and(|first| first == self.session.agent.as_str())
        {
            texts.remove(0);
        } else if texts.len() > 1
            && let Some(name) = texts.first().and_then(|text| text.to_str())
            && let Ok(agent) = name.parse::<AgentName>()
        {
            let state = site.ledger.state(&[Need::Agent(agent.clone())])?;
            if state.agents.contains_key(&agent) {
                return Err(self.only_oneself());
            }
        }
        claim::patterns(&texts)
    }

    fn only_oneself(&self) -> Failure {
        let agent = &self.session.agent;
        Failure::refused(format!(
            "this is {agent}'s mount: it speaks for {agent} alone"
        ))
        .hint("leave out the name")
    }

    /// Claims what can be had at once; asks a person for the rest.
    fn claim(&self, site: &mut Site, ask: ClaimAsk, reason: String) -> Result<Reply, Failure> {
        if ask.patterns.is_empty() {
            return Err(Failure::usage("name what to claim").hint("govfs claim PATTERN…"));
        }
        let state = site.ledger.state(&ask.needs())?;
        let charter = state.law.as_ref().map(|law| law.claims.ttl_ms);
        let wanted = ask.ttl_ms.or(charter);
        let most = charter.into_iter().chain(by_leave(&state, &ask)).min();
        let cut_ms = most.filter(|most| wanted > Some(*most));
        let mut wish = Wish {
            mode: ask.mode,
            patterns: ask.patterns.clone(),
            ttl_ms: ask.ttl_ms,
            reason,
        };
        let mut now = ask;
        now.ttl_ms = cut_ms.or(now.ttl_ms);
        let mut claims = Vec::new();
        if let Some((lets, beyond)) = part(&state, &now)
            && !lets.is_empty()
            && !beyond.is_empty()
        {
            now.patterns = lets;
            match claim::claim(site, now.clone(), Patience::None)? {
                ClaimAnswer::Granted(rows) => claims = rows,
                ClaimAnswer::Refused(refusal) => return self.ask_for(site, &wish, refusal, claims),
            }
            now.patterns.clone_from(&beyond);
            wish.patterns = beyond;
        }
        let mut reply = match claim::claim(site, now, Patience::None)? {
            ClaimAnswer::Granted(rows) => {
                claims.extend(rows);
                Reply::found(Found::Claims(claims.clone()))
            }
            ClaimAnswer::Refused(refusal) => self.ask_for(site, &wish, refusal, claims.clone())?,
        };
        reply.cut_ms = cut_ms.filter(|_| !claims.is_empty());
        Ok(reply)
    }

    /// Asks a person for what was refused, where a person can give it.
    fn ask_for(
        &self,
        site: &mut Site,
        wish: &Wish,
        refusal: Refusal,
        claims: Vec<ClaimRow>,
    ) -> Result<Reply, Failure> {
        let rule = refusal.rule.to_owned();
        let conflicts = refusal.conflicts.clone();
        let request = can_be_asked(&refusal)
            .then(|| self.put(site, wish))
            .transpose()?;
        let mut failure = Failure::from(refusal);
        if let Some(number) = request {
            failure.hint = Some(format!(
                "the operator was asked (request {number}); go on with something else meanwhile: govfs status tells the answer"
            ));
        }
        let found = Found::Asked {
            claims,
            rule,
            conflicts,
            request,
        };
        Ok(Reply::failed(&failure, found))
    }

    /// Puts a wish on record, or finds the same one waiting.
    fn put(&self, site: &mut Site, wish: &Wish) -> Result<u64, Failure> {
        let number = requests::put(site, self.session, wish)?;
        // The ledger has the request; this only tells the run's end that there is one.
        let noted = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(self.session.asked())
            .and_then(|mut file| file.write_all(format!("{number}\n").as_bytes()));
        if let Err(error) = noted {
            tracing::warn!(%error, number, "the run's end will not tell of a request");
        }
        Ok(number)
    }

    /// Says that the work is done: a request for a merge names no paths.
    fn submit(&self, site: &mut Site, message: String) -> Result<Reply, Failure> {
        let wish = Wish {
            mode: Mode::Write,
            patterns: Vec::new(),
            ttl_ms: None,
            reason: message,
        };
        let number = self.put(site, &wish)?;
        Ok(Reply::found(Found::Submitted(number)))
    }

    fn status(&self, site: &mut Site) -> Result<Reply, Failure> {
        let row = session::load(site, &self.session.id)?;
        let session = Session::of(site, &self.session.id, &row);
        let agent = &self.session.agent;
        let needs = [
            Need::ClaimsOf(agent.clone()),
            Need::All(RowKind::Request),
            Need::Row(RowKey::new(RowKind::Session, &session.id)),
        ];
        let state = site.ledger.state(&needs)?;
        let rows: Vec<ClaimRow> = state.claims_of(agent).cloned().collect();
        let work = status::work(site, &session, &rows)?;
        let claims: Vec<Value> = rows
            .iter()
            .map(|claim| {
                json!({
                    "id": claim.id,
                    "agent": agent,
                    "pattern": claim.pattern,
                    "mode": claim.mode,
                    "generation": claim.generation,
                    "expires": claim.lease.expires(),
                })
            })
            .collect();
        let of = |standing| requests::of_session(&state, &session.id, standing);
        let waiting: Vec<Value> = of(Standing::Waiting)
            .map(|(number, row)| json!({ "number": number, "kind": row.kind(), "patterns": row.patterns, "reason": row.reason }))
            .collect();
        let denied: Vec<Value> = of(Standing::Denied)
            .map(|(number, row)| json!({ "number": number, "kind": row.kind(), "patterns": row.patterns, "reason": row.reason, "answer": row.answer }))
            .collect();
        let mut lines = vec![format!(
            "{agent}  session {}  on {}  {} changed, {} refused",
            session.id,
            row.base,
            work.changes.len(),
            work.denials
        )];
        lines.extend(rows.iter().map(|claim| {
            let mode = claim::mode_text(claim.mode);
            format!(
                "claim    {mode:<5} {}  until {}",
                claim.pattern,
                claim.lease.expires()
            )
        }));
        lines.extend(
            of(Standing::Waiting).map(|(number, row)| format!("request  {number} {}", row.wish())),
        );
        lines.extend(requests::denied(&state, &session.id));
        let changes = work.changes.iter();
        lines.extend(changes.map(|(letter, path)| format!("{letter}        {path}")));
        let leftovers = work.leftovers.iter();
        lines.extend(leftovers.map(|path| format!("left over, never merged: {path}")));
        let document = json!({ "sessions": [{
            "agent": agent,
            "session": session.id,
            "state": row.state,
            "base": row.base.to_string(),
            "mount": row.mount.as_ref().map(|mount| mount.dir.clone()),
            "tier": row.tier,
            "changes": work.changes.len(),
            "unsettled": work.unsettled,
            "leftovers": work.leftovers,
            "unclaimed": work.unclaimed,
            "denials": work.denials,
            "claims": claims,
            "requests": waiting,
            "denied": denied,
        }] });
        Ok(Reply::found(Found::Status { document, lines }))
    }
}

/// Returns for how long it holds by an operator's leave what it asks for again.
fn by_leave(state: &State, ask: &ClaimAsk) -> Option<u64> {
    let again = |claim: &&ClaimRow| {
        claim.leave.is_some() && claim.mode == ask.mode && ask.patterns.contains(&claim.pattern)
    };
    let held = state.claims_of(&ask.agent).filter(again);
    held.map(|claim| claim.lease.ttl_ms).min()
}

/// A rule that a person can lift; what is nonsense stays refused.
fn can_be_asked(refusal: &Refusal) -> bool {
    refusal.no == No::Rule && refusal.rule != "protected"
}

fn decoded(texts: &[String]) -> Result<Vec<OsString>, Failure> {
    let decode = |text: &String| {
        percent_decode(text)
            .map(OsString::from_vec)
            .ok_or_else(|| Failure::usage(format!("{text:?} is not percent-encoded")))
    };
    texts.iter().map(decode).collect()
}

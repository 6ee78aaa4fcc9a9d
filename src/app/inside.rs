//! `govfs` inside a mount: questions through the control zone, and their answers.
//!
//! Owns: the protocol between the two ends (one JSON document each way), and what
//! an agent may have at once. The agent is the one whose mount it is.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::app::claim::{self, Answer as ClaimAnswer, Patience};
use crate::app::failure::{Failure, Kind};
use crate::app::keeper::Keeper;
use crate::app::session::Session;
use crate::app::site::Site;
use crate::domain::claim::Ask as ClaimAsk;
use crate::domain::event::Mode;

/// What may be asked from inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// Patterns are percent-encoded.
    Claim {
        patterns: Vec<String>,
        read: bool,
        ttl_ms: Option<u64>,
    },
    Release {
        patterns: Vec<String>,
    },
    Why {
        path: String,
    },
    Status,
    Submit {
        message: Option<String>,
    },
}

/// The answer: an exit kind with words, or the verb's own document.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reply {
    pub code: u8,
    pub error: Option<String>,
    pub hint: Option<String>,
    pub lines: Vec<String>,
    pub document: Value,
}

impl Reply {
    fn done(lines: Vec<String>, document: Value) -> Self {
        Self {
            code: 0,
            error: None,
            hint: None,
            lines,
            document,
        }
    }

    fn failed(failure: &Failure) -> Self {
        Self {
            code: failure.kind.code(),
            error: Some(failure.message.clone()),
            hint: failure.hint.clone(),
            lines: Vec::new(),
            document: Value::Null,
        }
    }
}

/// Answers one request of the session's own agent.
pub fn answer(dir: &Path, session: &Session, keeper: &Keeper, request: &[u8]) -> Vec<u8> {
    let reply = match serde_json::from_slice::<Question>(request) {
        Ok(question) => decide(dir, session, keeper, &question)
            .unwrap_or_else(|failure| Reply::failed(&failure)),
        Err(error) => Reply::failed(&Failure::new(
            Kind::Usage,
            format!("not a request: {error}"),
        )),
    };
    serde_json::to_vec(&reply).unwrap_or_default()
}

fn decide(
    dir: &Path,
    session: &Session,
    keeper: &Keeper,
    question: &Question,
) -> Result<Reply, Failure> {
    let mut site = Site::open(dir)?;
    match question {
        Question::Claim {
            patterns,
            read,
            ttl_ms,
        } => {
            let patterns = claim::patterns(&decoded(patterns)?)?;
            let mode = if *read { Mode::Read } else { Mode::Write };
            let mut ask = ClaimAsk::new(session.agent.clone(), mode, patterns);
            ask.ttl_ms = *ttl_ms;
            match claim::claim(&mut site, ask, Patience::None)? {
                ClaimAnswer::Granted(rows) => {
                    let lines = rows
                        .iter()
                        .map(|row| format!("claimed {}", row.pattern))
                        .collect();
                    Ok(Reply::done(lines, json!({ "claims": rows })))
                }
                ClaimAnswer::Refused(refusal) => Ok(Reply::failed(&refusal.into())),
            }
        }
        Question::Release { patterns } => {
            let patterns = claim::patterns(&decoded(patterns)?)?;
            let freed = claim::release(&mut site, &session.agent, &patterns)?;
            let lines = freed.iter().map(|one| format!("released {one}")).collect();
            Ok(Reply::done(lines, json!({ "released": freed })))
        }
        Question::Status => {
            let document = json!({
                "agent": session.agent,
                "session": session.id,
                "base": session.row.base.to_string(),
                "entries": keeper.count(),
                "refused": keeper.refused(),
            });
            let lines = vec![
                format!("agent    {}", session.agent),
                format!("session  {}", session.id),
                format!("base     {}", session.row.base),
                format!("entries  {}", keeper.count()),
                format!("refused  {}", keeper.refused()),
            ];
            Ok(Reply::done(lines, document))
        }
        Question::Why { .. } | Question::Submit { .. } => {
            Err(Failure::usage("this question has no answer from inside"))
        }
    }
}

fn decoded(texts: &[String]) -> Result<Vec<Vec<u8>>, Failure> {
    let decode = |text: &String| {
        crate::domain::path::percent_decode(text)
            .ok_or_else(|| Failure::usage(format!("{text:?} is not percent-encoded")))
    };
    texts.iter().map(decode).collect()
}

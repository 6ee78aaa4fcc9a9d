//! Executables as validators: JSON in, verdict out.
//!
//! Stdin: `{"schema":"govfs/validator/v1","validator":NAME,"base":COMMIT,"plan":{…},"plans":[{…}]}`.
//! Stdout, one JSON object: `{"verdict":"allow"|"deny","reasons":["…"]}`; `accept`,
//! `pass` and `ok` mean allow, `refuse`, `reject` and `fail` mean deny.
//! A crash, another exit status than 0, an answer too late, too long or not of
//! this form is a refusal. Never runs anything.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::domain::dag::{Finding, Member};
use crate::domain::plan::Plan;

/// The longest answer that is read.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;
/// The most reasons that are kept.
const REASONS_MAX: usize = 20;

/// How a program that was run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Outcome {
    Exited {
        status: i32,
        /// The first [`ANSWER_BYTES_MAX`] bytes, broken characters replaced.
        stdout: String,
    },
    Killed {
        signal: i32,
    },
    TimedOut {
        after_ms: u64,
    },
    /// It could not be started.
    Failed {
        reason: String,
    },
}

impl Outcome {
    /// Returns what was printed by a program that ended well, else what went wrong.
    pub fn output(&self) -> Result<&str, String> {
        match self {
            Self::Exited { status: 0, stdout } => Ok(stdout),
            Self::Exited { status, .. } => Err(format!("it ended with status {status}")),
            Self::Killed { signal } => Err(format!("it was killed by signal {signal}")),
            Self::TimedOut { after_ms } => Err(format!("no answer within {after_ms} ms")),
            Self::Failed { reason } => Err(format!("it could not be run: {reason}")),
        }
    }
}

/// Returns what a validator reads on its standard input.
pub fn request(validator: &str, base: &str, plan: &Plan, members: &[Member<'_>]) -> String {
    let others = members.iter().filter(|member| member.plan.id != plan.id);
    let others: Vec<_> = others
        .map(|member| {
            let mut value = member.plan.json();
            value["done"] = json!(member.done);
            value
        })
        .collect();
    json!({
        "schema": "govfs/validator/v1",
        "validator": validator,
        "base": base,
        "plan": plan.json(),
        "plans": others,
    })
    .to_string()
}

#[derive(Deserialize)]
struct Answer {
    verdict: String,
    #[serde(default)]
    reasons: Vec<String>,
}

/// Returns why the validator refuses; nothing if it allows.
pub fn judge(plan: &Plan, name: &str, outcome: Option<&Outcome>) -> Option<Finding> {
    let reasons = match outcome.map(Outcome::output) {
        None => vec!["it was not asked".to_owned()],
        Some(Err(reason)) => vec![reason],
        Some(Ok(text)) => verdict(text)?,
    };
    let message = format!("validator {name} refuses: {}", reasons.join("; "));
    Some(Finding::new(plan, "validator", "plan.type", message))
}

/// Returns the reasons of a refusal, or nothing for leave.
fn verdict(text: &str) -> Option<Vec<String>> {
    if text.len() >= ANSWER_BYTES_MAX {
        return Some(vec!["its answer is too long".to_owned()]);
    }
    let answer: Answer = match serde_json::from_str(text) {
        Ok(answer) => answer,
        Err(error) => return Some(vec![format!("its answer is not a verdict: {error}")]),
    };
    match answer.verdict.as_str() {
        "allow" | "accept" | "pass" | "ok" => None,
        "deny" | "refuse" | "reject" | "fail" => Some(match answer.reasons.len() {
            0 => vec!["it gives no reason".to_owned()],
            _ => answer.reasons.into_iter().take(REASONS_MAX).collect(),
        }),
        other => {
            let other: String = other.chars().take(40).collect();
            Some(vec![format!("its verdict is {other:?}")])
        }
    }
}

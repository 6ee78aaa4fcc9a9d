//! What is wrong with plans, as a person reads it and as a script does.

use serde_json::{Value, json};

use crate::app::failure::Failure;
use crate::app::plan::Judgement;
use crate::cli::output::{Ink, Output};
use crate::domain::dag::{Fact, Finding};
use crate::domain::path::percent_encode;
use crate::domain::plan::PlanError;

pub(super) fn unreadable(
    errors: &[PlanError],
    findings: &[Finding],
    verb: &str,
    out: &mut Output,
) -> Failure {
    if out.json {
        let errors: Vec<Value> = errors.iter().map(error_fields).collect();
        let findings: Vec<Value> = findings.iter().map(finding_fields).collect();
        let fields = json!({ "ok": false, "errors": errors, "findings": findings });
        out.document(verb, fields);
    } else {
        tell_findings(findings, out);
    }
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    Failure::usage(lines.join("\n"))
}

pub(super) fn error_fields(error: &PlanError) -> Value {
    json!({
        "file": percent_encode(error.file.as_bytes()),
        "line": error.line,
        "key": error.key,
        "message": error.message,
    })
}

pub(super) fn tell_judgement(judged: &Judgement, verb: &str, out: &mut Output) {
    if out.json {
        let findings: Vec<Value> = judged.findings.iter().map(finding_fields).collect();
        let fields = json!({
            "ok": judged.is_clean(),
            "base": judged.base,
            "plans": judged.order,
            "findings": findings,
            "more": judged.more,
        });
        out.document(verb, fields);
        return;
    }
    tell_findings(&judged.findings, out);
    if judged.more {
        out.line("there are more overlaps than these");
    }
    if judged.is_clean() {
        match judged.order.len() {
            0 => out.line("no plans yet: govfs plan add FILE"),
            1 => out.line(format!("{} verifies", judged.order[0])),
            n => out.line(format!("{n} plans verify")),
        }
    }
}

pub(super) fn tell_findings(findings: &[Finding], out: &mut Output) {
    for finding in findings {
        let rule = out.paint(Ink::Red, finding.rule);
        out.line(format!(
            "{}: {rule}: {}",
            place(finding),
            finding.fault.message
        ));
    }
}

/// Where a finding stands: a file, line and key, or a stored plan's key.
pub(super) fn place(finding: &Finding) -> String {
    let fault = &finding.fault;
    match fault.file.as_str() {
        "" => format!("plan {} (stored): {}", finding.plan, fault.key),
        file => format!("{file}:{}: {}", fault.line, fault.key),
    }
}

pub(super) fn finding_fields(finding: &Finding) -> Value {
    let fault = &finding.fault;
    let mut fields = json!({
        "plan": finding.plan,
        "rule": finding.rule,
        "key": fault.key,
        "message": fault.message,
    });
    if !fault.file.is_empty() {
        fields["file"] = json!(percent_encode(fault.file.as_bytes()));
        fields["line"] = json!(fault.line);
    }
    match &finding.fact {
        Fact::Plain => {}
        Fact::Cycle(cycle) => fields["cycle"] = json!(cycle),
        Fact::Path(path) => fields["path"] = json!(path),
        Fact::Overlap {
            other,
            mine,
            theirs,
            witness,
        } => {
            let overlap =
                json!({"other": other, "mine": mine, "theirs": theirs, "witness": witness});
            fields["overlap"] = overlap;
        }
    }
    fields
}

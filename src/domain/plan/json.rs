//! A plan as JSON: for screens, for validators, for other programs.
//!
//! Owns: the names of the keys, a contract with whoever reads them. Never read back:
//! what stands for a plan is its canonical text.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::domain::plan::{Check, Plan};

impl Plan {
    /// Returns the plan as JSON; patterns are percent-encoded as everywhere in JSON.
    pub fn json(&self) -> Value {
        let run = self
            .run
            .as_ref()
            .map(|run| json!({"command": run.command, "prompt": run.prompt}));
        json!({
            "id": self.id,
            "type": self.kind,
            "agent": self.agent,
            "role": self.role,
            "dependencies": self.dependencies,
            "priority": self.priority,
            "description": self.description,
            "claims": {
                "files": self.claims.files,
                "tests": self.claims.tests,
                "read": self.claims.read,
            },
            "preconditions": {
                "schema_version": self.preconditions.schema_version,
                "feature_flags": self.preconditions.feature_flags,
                "commands": self.preconditions.commands,
            },
            "postconditions": self.postconditions_json(),
            "acceptance": {
                "checks": self.acceptance.iter().map(check).collect::<Vec<_>>(),
            },
            "run": run,
            "sha256": self.digest(),
        })
    }

    fn postconditions_json(&self) -> Value {
        let after = &self.postconditions;
        json!({
            "tests_pass": after.tests_pass,
            "tests_command": after.tests_command,
            "coverage_delta": after.coverage_delta.map(|delta| delta.to_string()),
            "tests_not_dropped": after.tests_not_dropped,
            "commands": after.commands,
        })
    }
}

fn check(check: &Check) -> Value {
    let mut out = Map::new();
    if let Some(name) = &check.name {
        out.insert("name".to_owned(), json!(name));
    }
    out.insert("command".to_owned(), json!(check.command));
    Value::Object(out)
}

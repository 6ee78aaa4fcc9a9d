//! Words and numbers for people: times, durations, and one line for each entry.

use serde_json::{Map, Value};

use crate::domain::entry::Line;
use crate::domain::path::percent_decode;
use crate::domain::time::Timestamp;

/// Seconds are enough on a screen.
pub(super) fn time(ts: Timestamp) -> String {
    let text = ts.to_string();
    format!("{} {}", &text[..10], &text[11..19])
}

/// Shows a duration by its two largest units.
pub(super) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let units = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let mut left = seconds;
    let mut parts = Vec::new();
    for (name, size) in units {
        if left >= size && parts.len() < 2 {
            parts.push(format!("{}{name}", left / size));
            left %= size;
        } else if !parts.is_empty() {
            break;
        }
    }
    if parts.is_empty() {
        "0s".to_owned()
    } else {
        parts.concat()
    }
}

/// Counts files in words.
pub(super) fn files(count: usize) -> String {
    if count == 1 {
        "1 file".to_owned()
    } else {
        format!("{count} files")
    }
}

/// Shows a number of bytes in the unit that suits it.
pub(super) fn size(bytes: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (name, unit) in units {
        if bytes >= unit {
            let tenths = bytes / (unit / 10).max(1);
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

/// Tells one entry in a line, without its number and time.
pub(super) fn entry(line: &Line<'_>) -> String {
    let body = line.body().unwrap_or_default();
    let who = line.agent.unwrap_or("-");
    format!("{:<12} {:<12} {}", line.op, who, what(line.op, &body))
}

fn what(op: &str, body: &Map<String, Value>) -> String {
    let text = |key: &str| shown(body.get(key));
    match op {
        "claim" => claim(body),
        "release" | "expire" | "abandon" => patterns(body.get("claims")),
        "charter" | "plan" => format!("{} {}", text("plan"), short(&text("sha256")))
            .trim()
            .to_owned(),
        "agent" => format!("role {} {}", text("role"), text("engine"))
            .trim()
            .to_owned(),
        "key" | "fork" => text("origin"),
        "seal" => format!("{} entries, head {}", text("count"), short(&text("head"))),
        "session" => format!("on {} at {}", text("branch"), short(&text("base"))),
        "write" => format!("{} {}+{}", text("path"), text("offset"), text("len")),
        "rename" => format!("{} -> {}", text("path"), text("to")),
        "version" => format!(
            "{} {} bytes {}",
            text("path"),
            text("size"),
            short(&text("sha256"))
        ),
        "denied" => format!(
            "{} {}: {} (x{})",
            text("tried"),
            text("path"),
            text("reason"),
            text("count")
        ),
        "merge" | "revert" => format!(
            "{} {} onto {}",
            text("decision"),
            short(&text("commit")),
            text("branch")
        ),
        "checkpoint" => format!("{} entries, root {}", text("size"), short(&text("root"))),
        _ => rest(body),
    }
}

fn claim(body: &Map<String, Value>) -> String {
    let asked = patterns(body.get("patterns"));
    let mode = shown(body.get("mode"));
    match shown(body.get("decision")).as_str() {
        "deny" => format!("refused: {}", shown(body.get("reason"))),
        _ => format!("{mode} {asked}"),
    }
}

fn patterns(value: Option<&Value>) -> String {
    let Some(Value::Array(items)) = value else {
        return String::new();
    };
    let texts: Vec<String> = items
        .iter()
        .map(|item| readable(&shown(item.get("pattern").or(Some(item)))))
        .collect();
    texts.join(" ")
}

fn rest(body: &Map<String, Value>) -> String {
    let fields: Vec<String> = body
        .iter()
        .filter(|(_, value)| !value.is_object() && !value.is_array())
        .map(|(key, value)| format!("{key}={}", shown(Some(value))))
        .collect();
    fields.join(" ")
}

/// Shows a body field by field, texts of several lines as they are.
pub(super) fn tree(body: &Map<String, Value>) -> String {
    let mut lines = Vec::new();
    for (key, value) in body {
        match value {
            Value::String(text) if text.contains('\n') => {
                lines.push(format!("{key}:"));
                lines.extend(text.lines().map(|line| format!("    {line}")));
            }
            Value::Object(_) | Value::Array(_) => {
                let pretty = serde_json::to_string_pretty(value).unwrap_or_default();
                lines.push(format!("{key}: {pretty}"));
            }
            _ => lines.push(format!("{key}: {}", shown(Some(value)))),
        }
    }
    lines.join("\n")
}

/// Shows a percent-encoded text as it is typed, where that is plain.
fn readable(text: &str) -> String {
    match percent_decode(text).map(String::from_utf8) {
        Some(Ok(plain)) if !plain.chars().any(char::is_control) => plain,
        _ => text.to_owned(),
    }
}

fn shown(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    }
}

fn short(text: &str) -> String {
    text.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (3 << 30, "3.0 GiB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn durations_are_told_by_their_two_largest_units() {
        for (ms, text) in [
            (0, "0s"),
            (59_999, "59s"),
            (61_000, "1m1s"),
            (3_600_000, "1h"),
            (8 * 3_600_000 - 1, "7h59m"),
            (90_000_000, "1d1h"),
        ] {
            assert_eq!(duration(ms), text, "{ms}");
        }
    }
}

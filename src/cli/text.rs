//! Words and numbers for people: times, durations, sizes, and a body field by field.

use serde_json::{Map, Value};

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

/// Shows a body field by field, line by line; texts of several lines are set in.
pub(super) fn tree(body: &Map<String, Value>) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, value) in body {
        match value {
            Value::String(text) if text.contains('\n') => {
                lines.push(format!("{key}:"));
                lines.extend(text.lines().map(|line| format!("    {line}")));
            }
            Value::Object(_) | Value::Array(_) => {
                let pretty = serde_json::to_string_pretty(value).unwrap_or_default();
                lines.extend(format!("{key}: {pretty}").lines().map(str::to_owned));
            }
            _ => lines.push(format!("{key}: {}", shown(Some(value)))),
        }
    }
    lines
}

fn shown(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    }
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

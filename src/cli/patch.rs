//! Content changes on a screen: the unified form, and the counted one.

use super::output::{Ink, Output};
use crate::app::content::Shift;
use crate::app::failure::Failure;

/// How wide the bar of a counted change may be.
const BAR: usize = 40;

/// Prints changes in unified form.
pub(super) fn print(out: &mut Output, shifts: &[Shift]) -> Result<(), Failure> {
    for shift in shifts {
        let patch = shift.patch()?;
        for line in patch.text.split_inclusive(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            out.content("", ink(line), line);
        }
    }
    Ok(())
}

fn ink(line: &[u8]) -> Option<Ink> {
    match line {
        [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] | [b'd', b'i', b'f', b'f', ..] => {
            Some(Ink::Bold)
        }
        [b'@', ..] => Some(Ink::Dim),
        [b'+', ..] => Some(Ink::Green),
        [b'-', ..] => Some(Ink::Red),
        _ => None,
    }
}

/// Prints one line a change, with a bar, and their sum.
pub(super) fn print_counts(out: &mut Output, shifts: &[Shift]) -> Result<(), Failure> {
    let mut rows = Vec::with_capacity(shifts.len());
    for shift in shifts {
        let name = match &shift.from {
            Some(from) => format!("{from} => {}", shift.path),
            None => shift.path.to_string(),
        };
        rows.push((name, shift.patch()?.lines));
    }
    let wide = rows.iter().map(|(name, _)| name.chars().count()).max();
    let most = rows
        .iter()
        .filter_map(|(_, lines)| lines.map(|(a, b)| a + b));
    let most = most.max().unwrap_or(0);
    let (mut added, mut removed) = (0, 0);
    for (name, lines) in &rows {
        let Some((plus, minus)) = *lines else {
            out.line(format!(
                " {name:<width$} | not text",
                width = wide.unwrap_or(0)
            ));
            continue;
        };
        (added, removed) = (added + plus, removed + minus);
        let bar = |count: usize, mark: &str| mark.repeat(scaled(count, most));
        let bars = format!(
            "{}{}",
            out.paint(Ink::Green, bar(plus, "+")),
            out.paint(Ink::Red, bar(minus, "-"))
        );
        let line = format!(
            " {name:<width$} | {:>4} {bars}",
            plus + minus,
            width = wide.unwrap_or(0)
        );
        out.line(line.trim_end());
    }
    if !rows.is_empty() {
        out.line(format!(
            " {} changed, {added} inserted(+), {removed} deleted(-)",
            super::text::files(rows.len())
        ));
    }
    Ok(())
}

fn scaled(count: usize, most: usize) -> usize {
    if most <= BAR || count == 0 {
        count
    } else {
        (count * BAR / most).max(1)
    }
}

//! Finding the enforced block in the prose.
//!
//! Owns: what a fence is (three or more of `` ` `` or `~`, indented by at most
//! three spaces, closed by at least as many of the same). A fence inside another
//! one is text.

use crate::domain::charter::CharterError;

/// The block's text and the line of the file on which it begins.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) text: &'a str,
    pub(super) first_line: usize,
}

pub(super) fn find(text: &str) -> Result<Block<'_>, Vec<CharterError>> {
    let mut found: Vec<Block<'_>> = Vec::new();
    let mut open: Option<(char, usize, usize, Option<usize>)> = None;
    let mut at = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let number = index + 1;
        let end = at + line.len();
        match (open, fence(line)) {
            (None, Some((mark, count, info))) => {
                let ours = info.split_whitespace().eq(["toml", "charter"]);
                open = Some((mark, count, number, ours.then_some(end)));
            }
            (Some((mark, count, line, start)), Some((close, more, "")))
                if close == mark && more >= count =>
            {
                if let Some(start) = start {
                    found.push(Block {
                        text: &text[start..at],
                        first_line: line + 1,
                    });
                }
                open = None;
            }
            _ => {}
        }
        at = end;
    }
    if let Some((_, _, line, Some(_))) = open {
        return Err(vec![fault(
            line,
            "the charter block is never closed; end it with ```",
        )]);
    }
    match found[..] {
        [block] => Ok(block),
        [] => Err(vec![fault(
            1,
            "there is no charter: write one block that begins with ```toml charter",
        )]),
        [first, ref more @ ..] => Err(more
            .iter()
            .map(|block| {
                let first = first.first_line - 1;
                let message = format!("a second charter block; the first begins on line {first}");
                fault(block.first_line - 1, &message)
            })
            .collect()),
    }
}

fn fault(line: usize, message: &str) -> CharterError {
    CharterError {
        line,
        key: String::new(),
        message: message.to_owned(),
    }
}

/// Returns a fence's mark, its length and what follows.
fn fence(line: &str) -> Option<(char, usize, &str)> {
    let body = line.trim_start_matches(' ');
    let mark = body.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let info = body.trim_start_matches(mark);
    let count = body.len() - info.len();
    let info = info.trim();
    let inline = mark == '`' && info.contains('`');
    (line.len() - body.len() < 4 && count >= 3 && !inline).then_some((mark, count, info))
}

//! Foreign text on a screen: agents, programs and file names choose what it says, not what it does.
//!
//! Owns: which characters do something to a screen instead of standing on it, and how
//! they are shown. Never decides where: whoever prints asks once, at the exit.

use std::borrow::Cow;

/// Says whether `c` moves the cursor, ends a line, or turns the order of what stands beside it.
pub fn is_harmful(c: char) -> bool {
    let turns = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    let ends_line = matches!(c, '\u{2028}' | '\u{2029}');
    c.is_control() || turns || ends_line
}

/// Returns one line that only stands there: what is harmful is spelled out, but for the tabs of tables.
pub fn calm(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c != '\t' && is_harmful(c);
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut calm = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if harmful(c) {
            calm.extend(c.escape_default());
        } else {
            calm.push(c);
        }
    }
    Cow::Owned(calm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_something_to_a_screen_is_spelled_out_and_the_rest_stays() {
        for (text, shown) in [
            (
                "plain, 'ä' and \\n\tof a table",
                "plain, 'ä' and \\n\tof a table",
            ),
            ("a\nb\r", r"a\nb\r"),
            (
                "\u{1b}[31mred\u{1b}]0;title\u{7}",
                r"\u{1b}[31mred\u{1b}]0;title\u{7}",
            ),
            ("c1 \u{9b}2J\u{7f}", r"c1 \u{9b}2J\u{7f}"),
            (
                "\u{202e}gpj.exe\u{2066}\u{200f}\u{61c}",
                r"\u{202e}gpj.exe\u{2066}\u{200f}\u{61c}",
            ),
            ("x\u{2028}y\u{2029}", r"x\u{2028}y\u{2029}"),
        ] {
            assert_eq!(calm(text), shown);
        }
    }
}

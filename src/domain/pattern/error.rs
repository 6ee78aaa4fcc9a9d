//! Why a text is no pattern.
//!
//! Owns: the words of every refusal, each with the reason and with what to write
//! instead.

use crate::domain::path::NAME_MAX;
use crate::domain::pattern::PATTERN_MAX;

/// Why a text is no pattern, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("the pattern is empty; write a path, or `**` for the whole repository")]
    Empty,
    #[error("the pattern contains a NUL byte, which no path can have")]
    Nul,
    #[error(
        "the pattern is {0} bytes long, the longest is {PATTERN_MAX}; write several shorter ones"
    )]
    TooLong(usize),
    #[error("the pattern is absolute; give it relative to the repository's root: `{instead}`")]
    Absolute { instead: String },
    #[error("a pattern has no `.` component; write `{instead}`")]
    Dot { instead: String },
    #[error("`..` leads out of what can be claimed; give the path from the repository's root")]
    DotDot,
    #[error(
        "the pattern has an empty component (`//`, or a `/` that braces leave over); write `{instead}`"
    )]
    EmptyComponent { instead: String },
    #[error("a glob cannot end in `/`; write `{instead}` for what lies beneath")]
    TrailingSlash { instead: String },
    #[error(
        "`{component}` is git's own directory or taken for it by some system, and can never be claimed; claim files of the working tree"
    )]
    GitDirectory { component: String },
    #[error(
        "`.govfs` at the root is govfs's own, and can never be claimed; claim files of the working tree"
    )]
    Control,
    #[error(
        "a component is longer than {NAME_MAX} bytes, and no name can be; shorten it or use `*`"
    )]
    NameTooLong,
    #[error(
        "no name matches `{component}`; every name it would match is `.`, `..`, `.git` or too long"
    )]
    NoName { component: String },
    #[error("no path is short enough to match the pattern; shorten it")]
    NoPath,
    #[error("`[` without its `]`; write `\\[` for the character")]
    UnclosedClass,
    #[error("a class `[…]` cannot match `/`; write the alternatives in braces, as in `{{a/b,c}}`")]
    SlashInClass,
    #[error("the class `[…]` matches nothing; write `\\[` for the character")]
    EmptyClass,
    #[error(
        "the range `{from}-{to}` in a class is empty; write it from the lower to the higher byte"
    )]
    EmptyRange { from: String, to: String },
    #[error(
        "a class matches one byte and `{letter}` is several; write the alternatives in braces, as in `{{é,è}}`"
    )]
    WideLetter { letter: String },
    #[error(
        "`[:{name}:]` is no class; known are alnum alpha blank digit graph lower print punct space upper word xdigit"
    )]
    UnknownClass { name: String },
    #[error("`{{` without its `}}`; write `\\{{` for the character")]
    UnclosedBrace,
    #[error("`}}` without its `{{`; write `\\}}` for the character")]
    StrayBrace,
    #[error("`{{}}` has no alternatives; write `\\{{\\}}` for the characters")]
    EmptyBraces,
    #[error(
        "`**` stands for whole components, so it must be one by itself; write `*` inside a name, or `**/` before it"
    )]
    DeepNotAlone,
    #[error("{what}; if that is meant, write {instead}")]
    Slip { what: &'static str, instead: String },
    #[error("the pattern ends in a single `\\`; write `\\\\` for the character")]
    TrailingBackslash,
    #[error("the pattern has more than {max} {what}; write several simpler ones")]
    TooComplex { what: &'static str, max: usize },
}

//! The one way out: results to stdout, everything else to stderr.
//!
//! Owns: JSON documents and their schema names, colour, notes, how a failure
//! looks, that a reader who goes away is no failure, and that foreign text does
//! nothing to the screen it stands on: every line but JSON goes through here, so no
//! verb has to think of it. The bytes of files stay as they are where no terminal
//! reads them, so that a patch can be applied.

use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::fmt::Display;
use std::hash::BuildHasher;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::Color;
use crate::app::failure::{Failure, Kind};
use crate::domain::screen::calm;

pub(super) struct Output {
    pub json: bool,
    pub quiet: bool,
    pub verbose: u8,
    color: bool,
    /// Begins each of our own colours until a line leaves; nobody who wrote foreign text could know it.
    seal: String,
    /// The results go to a screen.
    is_screen: bool,
    stdout: BufWriter<io::Stdout>,
    /// What the program ends with where nothing failed.
    pub status: u8,
    /// The reader went away, or the disk behind it is full.
    broken: Option<io::Error>,
    /// Whose document a failure becomes, where none was printed.
    verb: Option<String>,
    printed: bool,
}

/// Where a colour ends.
const END: &str = "\u{1b}[0m";

/// The verbs whose stdout is nothing but hashed lines, or somebody else's.
const WITHOUT_DOCUMENT: [&str; 4] = ["log", "show", "run", "serve"];

/// The colours that screens use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
}

impl Ink {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Red => "31",
            Self::Green => "32",
            Self::Yellow => "33",
        }
    }

    fn begin(self) -> String {
        format!("\u{1b}[{}m", self.code())
    }
}

impl Output {
    pub(super) fn new(json: bool, quiet: bool, verbose: u8, color: Color) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => !no_color && io::stdout().is_terminal(),
        };
        Self {
            json,
            quiet,
            verbose,
            color,
            seal: format!("\u{1b}{:016x};", RandomState::new().hash_one(0)),
            is_screen: io::stdout().is_terminal(),
            stdout: BufWriter::with_capacity(1 << 16, io::stdout()),
            status: 0,
            broken: None,
            verb: None,
            printed: false,
        }
    }

    /// Says which verb this is the output of.
    pub(super) fn of_verb(mut self, verb: &str) -> Self {
        let has = !WITHOUT_DOCUMENT.contains(&verb);
        self.verb = has.then(|| verb.to_owned());
        self
    }

    /// Prints one line of a result.
    pub(super) fn line(&mut self, text: impl Display) {
        let line = self.inked(&text.to_string());
        self.bytes(format!("{line}\n").as_bytes());
    }

    /// Prints a text of several lines.
    pub(super) fn text(&mut self, text: &str) {
        text.lines().for_each(|line| self.line(line));
    }

    /// Prints a line of somebody's file after our own `head`: as it is, but for a screen.
    pub(super) fn content(&mut self, head: &str, ink: Option<Ink>, text: &[u8]) {
        let paint = self.color.then_some(ink).flatten();
        let (begin, end) = paint.map_or_else(Default::default, |ink| (ink.begin(), END));
        let screened = self
            .is_screen
            .then(|| calm(&String::from_utf8_lossy(text)).into_owned());
        let text = screened.as_ref().map_or(text, |text| text.as_bytes());
        let head = self.inked(head);
        let parts = [head.as_bytes(), begin.as_bytes(), text, end.as_bytes()];
        self.bytes(&parts.concat());
        self.bytes(b"\n");
    }

    /// Prints a whole file that somebody wrote, in the same way.
    pub(super) fn file(&mut self, text: &[u8]) {
        if !self.is_screen {
            return self.bytes(text);
        }
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            self.content("", None, line.strip_suffix(b"\n").unwrap_or(line));
        }
    }

    /// Makes a line harmless, and our own marks in it the colours that they stand for.
    fn inked(&self, line: &str) -> String {
        let mut parts = line.split(&self.seal);
        let mut inked = calm(parts.next().unwrap_or_default()).into_owned();
        for part in parts {
            let (code, text) = part.split_once('m').unwrap_or(("0", part));
            inked.push_str(&format!("\u{1b}[{code}m{}", calm(text)));
        }
        inked
    }

    /// Prints bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.printed = true;
        if self.broken.is_none()
            && let Err(error) = self.stdout.write_all(bytes)
        {
            self.broken = Some(error);
        }
    }

    /// Hands on what is buffered: a stream shows its lines as they come.
    pub(super) fn flush(&mut self) {
        if self.broken.is_none()
            && let Err(error) = self.stdout.flush()
        {
            self.broken = Some(error);
        }
    }

    /// Says whether there is nobody left to print for.
    pub(super) fn is_closed(&self) -> bool {
        self.broken.is_some()
    }

    /// Prints one document; `fields` must be an object.
    pub(super) fn document(&mut self, verb: &str, fields: Value) {
        let mut document = Map::new();
        document.insert(
            "schema".to_owned(),
            Value::String(format!("govfs/{verb}/v1")),
        );
        if let Value::Object(fields) = fields {
            document.extend(fields);
        }
        self.bytes(format!("{}\n", Value::Object(document)).as_bytes());
    }

    /// Says something that is no result, on stderr.
    pub(super) fn note(&self, text: impl Display) {
        if !self.quiet {
            complain(&self.inked(&text.to_string()));
        }
    }

    /// Suggests what to do next, to a person.
    pub(super) fn tip(&self, text: impl Display) {
        if !self.quiet && !self.json && io::stderr().is_terminal() {
            complain(&self.inked(&text.to_string()));
        }
    }

    /// Colours `text` where colours are wanted.
    pub(super) fn paint(&self, ink: Ink, text: impl Display) -> String {
        if self.color {
            let seal = &self.seal;
            format!("{seal}{}m{text}{seal}0m", ink.code())
        } else {
            text.to_string()
        }
    }

    /// Ends the program: flushes, shows a failure, says the exit status.
    pub(super) fn finish(mut self, done: Result<(), Failure>) -> ExitCode {
        if let Err(failure) = &done {
            self.document_failure(failure);
        }
        self.flush();
        if let Err(failure) = done {
            self.fail(&failure);
            return ExitCode::from(failure.kind.code());
        }
        match self.broken {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                complain(&format!(
                    "error: cannot write the result: {error}\nhint: free some space and try again"
                ));
                ExitCode::FAILURE
            }
            _ => ExitCode::from(self.status),
        }
    }

    /// Shows a failure; the exit status is the caller's.
    #[expect(clippy::unused_self, reason = "the way out")]
    pub(super) fn fail(&self, failure: &Failure) {
        let (message, hint) = told(failure);
        complain(&format!(
            "error: {}\nhint: {}",
            set_in(message),
            set_in(hint)
        ));
    }

    /// Whoever asked for JSON gets one document, also of a failure.
    fn document_failure(&mut self, failure: &Failure) {
        if let Some(verb) = self.verb.take().filter(|_| self.json && !self.printed) {
            let (error, hint) = told(failure);
            let fields = json!({
                "error": error,
                "hint": hint,
                "kind": failure.kind.as_str(),
                "rule": failure.rule,
                "exit": failure.kind.code(),
            });
            self.document(&verb, fields);
        }
    }
}

/// What happened, and what to try: there is always something.
fn told(failure: &Failure) -> (&str, &str) {
    let message = failure.message.as_str();
    if let Some(hint) = &failure.hint {
        return (message, hint);
    }
    let general = match failure.kind {
        // A mistake often says itself what to write instead.
        Kind::Usage => match message.split_once("; ") {
            Some((message, instead)) if !message.contains('\n') => return (message, instead),
            _ => "govfs --help lists the verbs, govfs VERB --help shows examples",
        },
        Kind::Failed | Kind::Launch => "what the system said stands above; -v says more",
        Kind::Machine => "govfs doctor says what this machine lacks",
        Kind::Refused => "govfs log --denied shows what was refused, and why",
        Kind::Integrity => "govfs verify --deep says where",
        Kind::Missing => "is the name right? govfs --help lists the verbs",
    };
    (message, general)
}

/// Shows what clap has to say: help is a result, a mistake is not.
pub(super) fn usage(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let status = u8::try_from(error.exit_code()).unwrap_or(2);
    if !error.use_stderr() {
        // A reader of the help that goes away is no failure.
        let plain = arguments.iter().any(|argument| argument == "--color=never")
            || (arguments.windows(2)).any(|pair| pair[0] == "--color" && pair[1] == "never");
        let _ = if plain {
            write!(io::stdout(), "{}", error.render())
        } else {
            error.print()
        };
        return ExitCode::from(status);
    }
    let verb = super::verb_of(arguments);
    let hint = match &verb {
        Some(verb) => format!("govfs {} --help", verb.split('-').next().unwrap_or(verb)),
        None => "govfs --help".to_owned(),
    };
    let text = error.render().to_string();
    let text = match text.rsplit_once("\n\nFor more information") {
        Some((text, _)) => text.to_owned(),
        None if text.starts_with("error: ") => text.trim_end().to_owned(),
        None => format!(
            "error: what is to be done is missing\n\n{}",
            text.trim_end()
        ),
    };
    let shown: Vec<_> = text.lines().map(calm).collect();
    complain(&format!("{}\nhint: {hint}", shown.join("\n")));
    let json = arguments.iter().any(|argument| argument == "--json");
    if let Some(verb) = verb.filter(|_| json) {
        let message = text.lines().next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(message);
        let mut out = Output::new(true, true, 0, Color::Never).of_verb(&verb);
        out.document_failure(&Failure::usage(message).hint(hint));
        out.flush();
    }
    ExitCode::from(status)
}

/// Makes a text of several lines harmless: what follows the first is set in, and poses as no line of ours.
fn set_in(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(calm).collect();
    lines.join("\n  ")
}

/// A line on stderr; nobody may be there to read it.
fn complain(text: &impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_colours_show_and_those_of_others_are_spelled_out() {
        let out = Output::new(false, false, 0, Color::Always);
        let foreign = "\u{1b}[31mno\n99 \u{1b}0000000000000000;1m";
        let line = format!("{} {foreign}", out.paint(Ink::Red, foreign));
        let calm = r"\u{1b}[31mno\n99 \u{1b}0000000000000000;1m";
        assert_eq!(
            out.inked(&line),
            format!("\u{1b}[31m{calm}\u{1b}[0m {calm}")
        );
    }

    #[test]
    fn an_error_of_several_lines_poses_as_no_line_of_ours() {
        assert_eq!(set_in("a\nhint: b\u{7}"), "a\n  hint: b\\u{7}");
    }
}

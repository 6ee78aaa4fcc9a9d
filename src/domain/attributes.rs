//! The attributes of a path, from a tree's own `.gitattributes` files.
//!
//! Owns: git's rules for them: the deepest file first, in a file the last matching
//! line first, in a line the last assignment first, and the first to speak of an
//! attribute decides. Macros are those of the root's file and git's own `binary`.
//! Only files of the base's tree count, never `info/attributes` or a person's own
//! file. Keeps only what bears on how a file is checked out. Never reads a file;
//! the caller gives the bytes.

use std::sync::Arc;

use gix_glob::pattern::Case;
use gix_glob::wildmatch::Mode;

use crate::domain::path::RepoPath;

/// Git ignores lines that are longer.
const LINE_MAX: usize = 2048;

/// The attributes that decide how a file is checked out, in the order of [`Attributes`].
const NAMES: [&str; 6] = [
    "text",
    "crlf",
    "eol",
    "ident",
    "filter",
    "working-tree-encoding",
];

/// What a file says of an attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Value {
    #[default]
    Unspecified,
    Set,
    Unset,
    Text(Box<[u8]>),
}

impl Value {
    /// Returns the text after `=`, where there is one.
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text),
            Self::Unspecified | Self::Set | Self::Unset => None,
        }
    }
}

/// The attributes of one path that decide how it is checked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes<'a> {
    pub text: &'a Value,
    pub crlf: &'a Value,
    pub eol: &'a Value,
    pub ident: &'a Value,
    pub filter: &'a Value,
    pub working_tree_encoding: &'a Value,
}

type Assignment = (Box<str>, Value);

/// The lines of one `.gitattributes` file.
#[derive(Debug, Default)]
pub struct AttributeFile {
    rules: Vec<(gix_glob::Pattern, Vec<Assignment>)>,
    macros: Vec<(Box<str>, Vec<Assignment>)>,
}

impl AttributeFile {
    /// Reads a file; a line that git would warn of is left out, as git does.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut file = Self::default();
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        // Git reads the file as a C string.
        let text = bytes.split(|&b| b == 0).next().unwrap_or_default();
        for line in text.split(|&b| b == b'\n') {
            if line.len() < LINE_MAX {
                file.add_line(line);
            }
        }
        file
    }

    fn add_line(&mut self, line: &[u8]) {
        let Some(Ok((kind, assignments, _))) = gix_attributes::parse(line).next() else {
            return;
        };
        let Ok(assignments) = assignments
            .map(|one| one.map(|one| (one.name.as_str().into(), value_of(one.state))))
            .collect::<Result<Vec<Assignment>, _>>()
        else {
            return;
        };
        match kind {
            gix_attributes::parse::Kind::Pattern(pattern) => {
                self.rules.push((pattern, assignments));
            }
            gix_attributes::parse::Kind::Macro(name) => {
                self.macros.push((name.as_str().into(), assignments));
            }
        }
    }
}

fn value_of(state: gix_attributes::StateRef<'_>) -> Value {
    match state {
        gix_attributes::StateRef::Set => Value::Set,
        gix_attributes::StateRef::Unset => Value::Unset,
        gix_attributes::StateRef::Unspecified => Value::Unspecified,
        gix_attributes::StateRef::Value(value) => Value::Text(value.as_bstr().to_vec().into()),
    }
}

/// An assignment to the attribute with that index among the stack's names.
type Effect = (usize, Value);

#[derive(Debug)]
struct Rule {
    /// Which of the stack's directories its file is in.
    dir: usize,
    pattern: gix_glob::Pattern,
    effects: Vec<Effect>,
}

/// The rules that hold in a directory, strongest first.
#[derive(Debug, Default)]
pub struct AttributeStack {
    dirs: Vec<RepoPath>,
    rules: Vec<Rule>,
    /// What the names after [`NAMES`] expand to.
    macros: Vec<Vec<Effect>>,
}

impl AttributeStack {
    /// Puts together the files of a directory and those above it, the root's first.
    pub fn new(files: &[(RepoPath, Arc<AttributeFile>)]) -> Self {
        let macros = macros_of(files);
        let names: Vec<&str> = NAMES
            .into_iter()
            .chain(macros.iter().map(|(name, _)| *name))
            .collect();
        let rules = files
            .iter()
            .enumerate()
            .rev()
            .flat_map(|(dir, (_, file))| file.rules.iter().rev().map(move |rule| (dir, rule)));
        Self {
            dirs: files.iter().map(|(dir, _)| dir.clone()).collect(),
            rules: rules
                .map(|(dir, (pattern, assignments))| Rule {
                    dir,
                    pattern: pattern.clone(),
                    effects: effects(assignments, &names),
                })
                .filter(|rule| !rule.effects.is_empty())
                .collect(),
            macros: macros
                .iter()
                .map(|(_, assignments)| effects(assignments, &names))
                .collect(),
        }
    }

    /// Says whether no path has an attribute that matters here.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Returns the attributes of the file at `path`.
    pub fn evaluate(&self, path: &RepoPath) -> Attributes<'_> {
        const NOTHING: &Value = &Value::Unspecified;
        let mut values = vec![None; NAMES.len() + self.macros.len()];
        for rule in &self.rules {
            if self.matches(rule, path) {
                self.fill(&mut values, &rule.effects);
            }
        }
        let value = |at: usize| values[at].unwrap_or(NOTHING);
        Attributes {
            text: value(0),
            crlf: value(1),
            eol: value(2),
            ident: value(3),
            filter: value(4),
            working_tree_encoding: value(5),
        }
    }

    fn matches(&self, rule: &Rule, path: &RepoPath) -> bool {
        let dir = &self.dirs[rule.dir];
        if !path.starts_with(dir) || path == dir {
            return false;
        }
        let prefix = dir.as_bytes().len() + usize::from(!dir.is_root());
        let path = &path.as_bytes()[prefix..];
        let base = path.iter().rposition(|&b| b == b'/').map(|at| at + 1);
        rule.pattern.matches_repo_relative_path(
            path.into(),
            base,
            Some(false),
            Case::Sensitive,
            Mode::NO_MATCH_SLASH_LITERAL,
        )
    }

    /// Sets what nothing stronger has set; ends, as each name is set only once.
    fn fill<'a>(&'a self, values: &mut [Option<&'a Value>], effects: &'a [Effect]) {
        for (at, value) in effects.iter().rev() {
            if values[*at].is_some() {
                continue;
            }
            values[*at] = Some(value);
            if *value == Value::Set && *at >= NAMES.len() {
                self.fill(values, &self.macros[*at - NAMES.len()]);
            }
        }
    }
}

/// Returns each macro once, as its last definition says.
fn macros_of(files: &[(RepoPath, Arc<AttributeFile>)]) -> Vec<(&str, Vec<Assignment>)> {
    let mut macros: Vec<(&str, Vec<Assignment>)> =
        vec![("binary", vec![("text".into(), Value::Unset)])];
    let root = files.iter().find(|(dir, _)| dir.is_root());
    for (name, assignments) in root.iter().flat_map(|(_, file)| &file.macros) {
        macros.retain(|(known, _)| *known != &**name);
        macros.push((name, assignments.clone()));
    }
    macros
}

fn effects(assignments: &[Assignment], names: &[&str]) -> Vec<Effect> {
    let known = |(name, value): &Assignment| {
        let at = names.iter().position(|known| *known == &**name)?;
        Some((at, value.clone()))
    };
    assignments.iter().filter_map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(files: &[(&str, &str)]) -> AttributeStack {
        let files: Vec<_> = files
            .iter()
            .map(|(dir, text)| {
                let dir = RepoPath::decode(dir).expect(dir);
                (dir, Arc::new(AttributeFile::parse(text.as_bytes())))
            })
            .collect();
        AttributeStack::new(&files)
    }

    fn text_of(files: &[(&str, &str)], path: &str) -> Value {
        let path = RepoPath::parse(path.as_bytes()).expect(path);
        stack(files).evaluate(&path).text.clone()
    }

    #[test]
    fn the_nearest_file_and_the_last_line_decide() {
        let auto = Value::Text(b"auto".as_slice().into());
        let files = [
            ("", "* text=auto\n*.bin -text\n/top.c !text\ndocs/** text\n"),
            ("sub", "*.bin text\n"),
        ];
        let cases = [
            ("a.c", auto.clone()),
            ("a.bin", Value::Unset),
            ("top.c", Value::Unspecified),
            ("x/top.c", auto),
            ("docs/x/y.bin", Value::Set),
            ("sub/x/a.bin", Value::Set),
        ];
        for (path, expected) in cases {
            assert_eq!(text_of(&files, path), expected, "{path}");
        }
    }

    #[test]
    fn macros_expand_where_they_are_set_and_are_the_roots_alone() {
        let files = [
            (
                "",
                "[attr]lines text eol=crlf\n*.a binary\n*.b lines\n*.c lines -text\n*.d -lines\n",
            ),
            ("sub", "[attr]mine text\n*.e mine\n"),
        ];
        assert_eq!(text_of(&files, "x.a"), Value::Unset);
        assert_eq!(text_of(&files, "x.b"), Value::Set);
        assert_eq!(text_of(&files, "x.c"), Value::Unset);
        assert_eq!(text_of(&files, "x.d"), Value::Unspecified);
        assert_eq!(text_of(&files, "sub/x.e"), Value::Unspecified);
        let stack = stack(&files);
        let path = RepoPath::parse(b"x.c").expect("path");
        assert_eq!(stack.evaluate(&path).eol.text(), Some(b"crlf".as_slice()));
    }

    #[test]
    fn lines_that_git_rejects_do_nothing() {
        let long = format!("*.c text{}\n", " ".repeat(LINE_MAX));
        for line in [
            "!*.c text\n",
            "*.c te/xt text\n",
            "*.c text -\n",
            "# *.c text\n",
            &long,
        ] {
            assert_eq!(text_of(&[("", line)], "a.c"), Value::Unspecified, "{line}");
        }
        assert_eq!(text_of(&[("", "\"a b.c\" text\r\n")], "a b.c"), Value::Set);
        assert!(stack(&[("", "*.c diff=cpp export-ignore\n")]).is_empty());
    }
}

//! Strict reading of TOML, with every fault found and placed.
//!
//! Owns: the walk over a parsed table that knows where each value stands. A
//! reading function returns `None` both for a missing key and for a faulty one;
//! the fault is noted, so that the whole fails in the end and the walk goes on.

use std::cell::RefCell;

use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;

use crate::domain::charter::CharterCommand;
use crate::domain::charter::CharterError;
use crate::domain::charter::block::Block;
use crate::domain::names::distance;
use crate::domain::time::parse_duration;

pub(super) struct Reader<'i> {
    block: Block<'i>,
    faults: RefCell<Vec<CharterError>>,
}

/// A text and where it stands.
pub(super) struct Text {
    pub(super) text: String,
    pub(super) at: usize,
}

impl<'i> Reader<'i> {
    pub(super) fn new(block: Block<'i>) -> Self {
        Self {
            block,
            faults: RefCell::default(),
        }
    }

    /// Parses the block. Nothing of a block that is no TOML is read further: what
    /// its tables are would be a guess.
    pub(super) fn table(&self) -> Spanned<DeTable<'i>> {
        let (mut table, errors) = DeTable::parse_recoverable(self.block.text);
        if !errors.is_empty() {
            table.get_mut().clear();
        }
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            let words: Vec<&str> = error.message().lines().collect();
            self.fault(at, &self.key_near(at), words.join("; "));
        }
        table
    }

    /// Returns what stands before the `=` on the line of a syntax error.
    fn key_near(&self, at: usize) -> String {
        let text = self.block.text;
        let start = text.get(..at).and_then(|before| before.rfind('\n'));
        let line = text.get(start.map_or(0, |at| at + 1)..).unwrap_or_default();
        let line = line.lines().next().unwrap_or_default();
        let key = line.split_once('=').map_or("", |(key, _)| key.trim());
        key.to_owned()
    }

    pub(super) fn fault(&self, at: usize, key: &str, message: impl Into<String>) {
        let text = self.block.text;
        let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
        let newlines = before.split(|&b| b == b'\n').count() - 1;
        self.faults.borrow_mut().push(CharterError {
            line: self.block.first_line + newlines,
            key: key.to_owned(),
            message: message.into(),
        });
    }

    pub(super) fn finish<T>(self, value: T) -> Result<T, Vec<CharterError>> {
        let mut faults = self.faults.into_inner();
        if faults.is_empty() {
            return Ok(value);
        }
        faults.sort_by(|a, b| (a.line, &a.key).cmp(&(b.line, &b.key)));
        faults.dedup();
        Err(faults)
    }
}

/// Whether an empty list says something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Empty {
    Fine,
    Senseless,
}

/// One table of the charter; knows which of its keys were asked for.
pub(super) struct Section<'t, 'i> {
    name: String,
    table: Option<&'t DeTable<'i>>,
    at: usize,
    known: Vec<&'static str>,
}

type Value<'t, 'i> = &'t Spanned<DeValue<'i>>;

impl<'t, 'i> Section<'t, 'i> {
    pub(super) fn root(table: &'t Spanned<DeTable<'i>>) -> Self {
        Self {
            name: String::new(),
            table: Some(table.get_ref()),
            at: 0,
            known: Vec::new(),
        }
    }

    /// Returns where the table begins.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn key(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    fn value(&mut self, key: &'static str) -> Option<Value<'t, 'i>> {
        self.known.push(key);
        self.get(key)
    }

    fn wrong(&self, reader: &Reader<'_>, key: &str, value: Value<'_, '_>, wanted: &str) {
        let found = value.get_ref().type_str();
        let message = format!("must be {wanted}, is {found}");
        reader.fault(value.span().start, &self.key(key), message);
    }

    /// Returns the table `key`; one that is not there is empty.
    pub(super) fn section(&mut self, reader: &Reader<'_>, key: &'static str) -> Self {
        let value = self.value(key);
        let table = value.and_then(|value| value.get_ref().as_table());
        if let (Some(value), None) = (value, table) {
            self.wrong(reader, key, value, "a table");
        }
        Self {
            name: self.key(key),
            table,
            at: value.map_or(0, |value| value.span().start),
            known: Vec::new(),
        }
    }

    fn get(&self, key: &str) -> Option<Value<'t, 'i>> {
        (self.table?.iter())
            .find(|(name, _)| name.get_ref() == key)
            .map(|(_, value)| value)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Returns where a key's value stands, or else its table.
    pub(super) fn at_of(&self, key: &str) -> usize {
        self.get(key).map_or(self.at, |value| value.span().start)
    }

    /// Returns the tables of a table of tables with their names, in the order of the file.
    pub(super) fn named(&mut self, reader: &Reader<'_>) -> Vec<(Text, Self)> {
        let mut out = Vec::new();
        for (key, value) in self.table.into_iter().flatten() {
            let name = key.get_ref().to_string();
            let Some(table) = value.get_ref().as_table() else {
                self.wrong(reader, &name, value, "a table");
                continue;
            };
            let section = Self {
                name: self.key(&name),
                table: Some(table),
                at: key.span().start,
                known: Vec::new(),
            };
            let at = key.span().start;
            out.push((Text { text: name, at }, section));
        }
        out.sort_by_key(|(name, _)| name.at);
        self.table = None;
        out
    }

    /// Returns the tables of an array of tables.
    pub(super) fn each(&mut self, reader: &Reader<'_>, key: &'static str) -> Vec<Self> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(
                reader,
                key,
                value,
                &format!("an array of tables, [[{}]]", self.key(key)),
            );
            return Vec::new();
        };
        let mut out = Vec::new();
        for (index, value) in array.iter().enumerate() {
            match value.get_ref().as_table() {
                Some(table) => out.push(Self {
                    name: format!("{}[{index}]", self.key(key)),
                    table: Some(table),
                    at: value.span().start,
                    known: Vec::new(),
                }),
                None => self.wrong(reader, key, value, "a table"),
            }
        }
        out
    }

    pub(super) fn boolean(&mut self, reader: &Reader<'_>, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.wrong(reader, key, value, "true or false");
        }
        found
    }

    /// Returns a whole number of at least `least`.
    pub(super) fn count(
        &mut self,
        reader: &Reader<'_>,
        key: &'static str,
        least: u32,
    ) -> Option<u32> {
        let value = self.value(key)?;
        let Some(number) = value.get_ref().as_integer() else {
            self.wrong(reader, key, value, "a whole number");
            return None;
        };
        let found = u32::from_str_radix(number.as_str(), number.radix()).ok();
        let found = found.filter(|count| *count >= least);
        if found.is_none() {
            let message = format!("must be a whole number from {least} to {}", u32::MAX);
            reader.fault(value.span().start, &self.key(key), message);
        }
        found
    }

    pub(super) fn text(&mut self, reader: &Reader<'_>, key: &'static str) -> Option<Text> {
        self.text_like(reader, key, "a string")
    }

    fn text_like(&mut self, reader: &Reader<'_>, key: &'static str, wanted: &str) -> Option<Text> {
        let value = self.value(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong(reader, key, value, wanted);
            return None;
        };
        Some(Text {
            text: text.to_owned(),
            at: value.span().start,
        })
    }

    /// Returns a string that `parse` accepts; its words are the fault otherwise.
    pub(super) fn parsed<T>(
        &mut self,
        reader: &Reader<'_>,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(reader, key)?;
        match parse(&text.text) {
            Ok(value) => Some(value),
            Err(message) => {
                reader.fault(text.at, &self.key(key), message);
                None
            }
        }
    }

    /// Returns one of `choices` by its name.
    pub(super) fn choice<T: Copy>(
        &mut self,
        reader: &Reader<'_>,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let known: Vec<String> = choices
            .iter()
            .map(|(name, _)| format!("{name:?}"))
            .collect();
        self.parsed(reader, key, |text| {
            (choices.iter().find(|(name, _)| *name == text))
                .map(|(_, value)| *value)
                .ok_or_else(|| format!("must be one of {}, is {text:?}", known.join(", ")))
        })
    }

    /// Returns a duration in milliseconds, never 0.
    pub(super) fn duration(&mut self, reader: &Reader<'_>, key: &'static str) -> Option<u64> {
        let text = self.text_like(
            reader,
            key,
            "a duration in quotes, such as \"90s\" or \"8h\"",
        )?;
        let found = parse_duration(&text.text).filter(|ms| *ms > 0);
        if found.is_none() {
            let message = format!(
                "{:?} is no duration; write it as \"90s\", \"30m\", \"8h\" or \"7d\"",
                text.text
            );
            reader.fault(text.at, &self.key(key), message);
        }
        found
    }

    /// Returns strings that `parse` accepts, each fault by itself; `None` where the key is missing.
    pub(super) fn list<T>(
        &mut self,
        reader: &Reader<'_>,
        key: &'static str,
        empty: Empty,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let value = self.value(key)?;
        self.list_of(reader, key, value, empty, &parse)
    }

    /// Returns a table of lists by their keys, which may be any.
    pub(super) fn lists<T>(
        &mut self,
        reader: &Reader<'_>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<(String, Vec<T>)> {
        let mut out = Vec::new();
        for (key, value) in self.table.into_iter().flatten() {
            let key = key.get_ref().to_string();
            let list = self.list_of(reader, &key, value, Empty::Senseless, &parse);
            out.extend(list.map(|list| (key, list)));
        }
        out
    }

    fn list_of<T>(
        &self,
        reader: &Reader<'_>,
        key: &str,
        value: Value<'_, '_>,
        empty: Empty,
        parse: &impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(reader, key, value, "an array of strings");
            return None;
        };
        if array.is_empty() && empty == Empty::Senseless {
            let message = "is empty, which says nothing; name at least one, or leave the key out";
            reader.fault(value.span().start, &self.key(key), message);
        }
        let mut out = Vec::new();
        for item in array {
            match item.get_ref().as_str().map(parse) {
                Some(Ok(item)) => out.push(item),
                Some(Err(message)) => reader.fault(item.span().start, &self.key(key), message),
                None => {
                    let found = item.get_ref().type_str();
                    let message = format!("must hold strings only, one is {found}");
                    reader.fault(item.span().start, &self.key(key), message);
                }
            }
        }
        Some(out)
    }

    /// Returns a command: a string for the shell, or the program and its arguments.
    pub(super) fn command(
        &mut self,
        reader: &Reader<'_>,
        key: &'static str,
    ) -> Option<CharterCommand> {
        let value = self.value(key)?;
        if value.get_ref().is_array() {
            let item = |text: &str| no_nul(text).map(|()| text.to_owned());
            let argv = self.list(reader, key, Empty::Senseless, item)?;
            if argv.first().is_some_and(String::is_empty) {
                reader.fault(
                    value.span().start,
                    &self.key(key),
                    "the program's name is empty",
                );
            }
            return Some(CharterCommand::Argv(argv));
        }
        let text = self.text_like(
            reader,
            key,
            "a command: a string for the shell, or an array of the program and its arguments",
        )?;
        if let Err(message) = no_nul(&text.text) {
            reader.fault(text.at, &self.key(key), message);
        }
        if text.text.trim().is_empty() {
            reader.fault(text.at, &self.key(key), "the command is empty");
        }
        Some(CharterCommand::Shell(text.text))
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(self, reader: &Reader<'_>) {
        for (key, _) in self.table.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if !self.known.contains(&name) {
                let near = nearest(name, &self.known);
                let known = if self.known.is_empty() || near.is_some() {
                    String::new()
                } else {
                    format!("; known here: {}", self.known.join(", "))
                };
                let hint = near.map_or(known, |near| format!("; did you mean `{near}`?"));
                reader.fault(
                    key.span().start,
                    &self.key(name),
                    format!("unknown key{hint}"),
                );
            }
        }
    }
}

fn no_nul(text: &str) -> Result<(), String> {
    if text.contains('\0') {
        return Err("a command cannot hold a NUL byte".to_owned());
    }
    Ok(())
}

/// Returns the known key that a misspelt one most resembles.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = name.to_lowercase().replace('_', "-");
    (known.iter())
        .map(|key| (distance(&plain, key), *key))
        .filter(|(distance, key)| *distance <= 2.min(key.len() / 3))
        .min()
        .map(|(_, key)| key)
}

//! Reading a TOML document so that every fault is found at once.
//!
//! Owns: the walk over a document's tables, with the line and dotted key of each
//! value, and the list of what was wrong. Invariant: a key that nobody asked for
//! is a fault. Never says what a value means.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;

/// What is wrong with a plan file, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub struct PlanError {
    pub file: String,
    /// From 1.
    pub line: u32,
    /// The dotted key, e.g. `claims.files[1]`; empty where the text itself is broken.
    pub key: String,
    pub message: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// A value with the place it stood at.
#[derive(Clone, Debug)]
pub struct At<T> {
    pub line: u32,
    pub key: String,
    pub value: T,
}

/// The faults found so far in one file.
#[derive(Debug)]
pub struct Problems<'a> {
    file: &'a str,
    /// Offset of the first byte of each line.
    starts: Vec<usize>,
    found: Vec<PlanError>,
}

impl<'a> Problems<'a> {
    pub fn new(file: &'a str, text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|&(_, b)| b == b'\n');
        let starts = std::iter::once(0)
            .chain(breaks.map(|(at, _)| at + 1))
            .collect();
        Self {
            file,
            starts,
            found: Vec::new(),
        }
    }

    /// Returns the line, from 1, that holds the byte at `offset`.
    pub fn line(&self, offset: usize) -> u32 {
        u32::try_from(self.starts.partition_point(|&start| start <= offset)).unwrap_or(u32::MAX)
    }

    pub fn add(&mut self, line: u32, key: impl Into<String>, message: impl Into<String>) {
        self.found.push(PlanError {
            file: self.file.to_owned(),
            line,
            key: key.into(),
            message: message.into(),
        });
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Returns `value` if nothing was wrong, else everything that was, by line.
    pub fn finish<T>(mut self, value: T) -> Result<T, Vec<PlanError>> {
        if self.found.is_empty() {
            return Ok(value);
        }
        self.found.sort();
        self.found.dedup();
        Err(self.found)
    }
}

/// Parses `text`; syntax faults go to `problems`, and then there is no table.
pub fn document<'i>(text: &'i str, problems: &mut Problems<'_>) -> Option<DeTable<'i>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let line = problems.line(error.span().map_or(0, |span| span.start));
        problems.add(line, "", format!("not TOML: {}", error.message()));
    }
    errors.is_empty().then(|| table.into_inner())
}

/// One table, and which of its keys were asked for.
#[derive(Debug)]
pub struct Fields<'a> {
    table: &'a DeTable<'a>,
    path: String,
    line: u32,
    asked: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Begins with the document's root.
    pub fn root(table: &'a DeTable<'a>) -> Self {
        Self {
            table,
            path: String::new(),
            line: 1,
            asked: Vec::new(),
        }
    }

    pub fn line(&self) -> u32 {
        self.line
    }

    /// Returns the dotted name of `key` in this table.
    pub fn name(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Returns the value of `key` with its place.
    pub fn raw(
        &mut self,
        key: &'static str,
        problems: &Problems<'_>,
    ) -> Option<At<&'a DeValue<'a>>> {
        self.asked.push(key);
        let (name, value) = self.table.get_key_value(key)?;
        Some(At {
            line: problems.line(name.span().start),
            key: self.name(key),
            value: value.get_ref(),
        })
    }

    /// Marks `keys` as known though they are not used.
    pub fn ignore(&mut self, keys: &[&'static str]) {
        self.asked.extend_from_slice(keys);
    }

    pub fn string(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<At<String>> {
        let at = self.raw(key, problems)?;
        at.expect("a string", problems, |value| {
            value.as_str().map(str::to_owned)
        })
    }

    pub fn boolean(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<At<bool>> {
        let at = self.raw(key, problems)?;
        at.expect("true or false", problems, flag)
    }

    pub fn integer(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<At<i64>> {
        let at = self.raw(key, problems)?;
        at.expect("a whole number", problems, whole)
    }

    /// Returns the string at `key` as a `T`.
    pub fn parsed<T>(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<At<T>>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        self.string(key, problems)?.parse(problems)
    }

    /// Returns the elements of the array at `key`; an absent key is an empty array.
    pub fn array(
        &mut self,
        key: &'static str,
        problems: &mut Problems<'_>,
    ) -> Vec<At<&'a DeValue<'a>>> {
        let Some(at) = self.raw(key, problems) else {
            return Vec::new();
        };
        match at.value {
            DeValue::Array(items) => at.elements(items, problems),
            other => {
                let message = format!("must be an array of strings, not {}", kind(other));
                problems.add(at.line, at.key, message);
                Vec::new()
            }
        }
    }

    /// Returns the strings of the array at `key`.
    pub fn strings(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Vec<At<String>> {
        let items = self.array(key, problems);
        let text = |value: &DeValue<'_>| value.as_str().map(str::to_owned);
        items
            .into_iter()
            .filter_map(|item| item.expect("a string", problems, text))
            .collect()
    }

    /// Returns the strings of the array at `key` as `T`s, each at most once.
    pub fn parsed_list<T>(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Vec<At<T>>
    where
        T: FromStr + Ord + Clone,
        T::Err: fmt::Display,
    {
        let mut seen = BTreeSet::new();
        let mut out = Vec::new();
        for item in self.strings(key, problems) {
            let Some(item) = item.parse::<T>(problems) else {
                continue;
            };
            if seen.insert(item.value.clone()) {
                out.push(item);
            } else {
                problems.add(item.line, item.key, "stands here twice");
            }
        }
        out
    }

    pub fn table(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<Self> {
        let at = self.raw(key, problems)?;
        at.fields(problems)
    }

    /// Returns every table in this one, with its name, for tables named by the user.
    pub fn tables(&mut self, problems: &mut Problems<'_>) -> Vec<(String, Self)> {
        let mut out = Vec::new();
        for (name, value) in self.table {
            let at = At {
                line: problems.line(name.span().start),
                key: self.name(name.get_ref()),
                value: value.get_ref(),
            };
            if let Some(fields) = at.fields(problems) {
                out.push((name.get_ref().to_string(), fields));
            }
        }
        out
    }

    /// Returns every whole number in this table, with its name.
    pub fn integers(&mut self, problems: &mut Problems<'_>) -> BTreeMap<String, At<i64>> {
        let mut out = BTreeMap::new();
        for (name, value) in self.table {
            let at = At {
                line: problems.line(name.span().start),
                key: self.name(name.get_ref()),
                value: value.get_ref(),
            };
            if let Some(at) = at.expect("a whole number", problems, whole) {
                out.insert(name.get_ref().to_string(), at);
            }
        }
        out
    }

    /// Returns the keys that nobody asked for, where that is no fault.
    pub fn unasked(&self) -> Vec<&'a str> {
        let names = self.table.keys().map(|name| -> &'a str { name.get_ref() });
        names.filter(|name| !self.asked.contains(name)).collect()
    }

    /// Names every key that nobody asked for.
    pub fn finish(mut self, problems: &mut Problems<'_>) {
        self.asked.sort_unstable();
        self.asked.dedup();
        for name in self.table.keys() {
            let key: &str = name.get_ref();
            if !self.asked.contains(&key) {
                let line = problems.line(name.span().start);
                let message = format!("unknown key; known here: {}", self.asked.join(", "));
                problems.add(line, self.name(key), message);
            }
        }
    }
}

impl<'a> At<&'a DeValue<'a>> {
    /// Returns what `read` makes of the value, or notes that it is not `what`.
    pub fn expect<T>(
        self,
        what: &str,
        problems: &mut Problems<'_>,
        read: impl Fn(&DeValue<'_>) -> Option<T>,
    ) -> Option<At<T>> {
        if let Some(value) = read(self.value) {
            return Some(At {
                line: self.line,
                key: self.key,
                value,
            });
        }
        let message = format!("must be {what}, not {}", kind(self.value));
        problems.add(self.line, self.key, message);
        None
    }

    /// Returns the elements of `items`, this value's array.
    pub fn elements(
        &self,
        items: &'a [Spanned<DeValue<'a>>],
        problems: &Problems<'_>,
    ) -> Vec<Self> {
        let place = |(index, item): (usize, &'a Spanned<DeValue<'a>>)| At {
            line: problems.line(item.span().start),
            key: format!("{}[{index}]", self.key),
            value: item.get_ref(),
        };
        items.iter().enumerate().map(place).collect()
    }

    /// Returns the table that this value is.
    pub fn fields(self, problems: &mut Problems<'_>) -> Option<Fields<'a>> {
        match self.value {
            DeValue::Table(table) => Some(Fields {
                table,
                path: self.key,
                line: self.line,
                asked: Vec::new(),
            }),
            other => {
                let message = format!("must be a table, not {}", kind(other));
                problems.add(self.line, self.key, message);
                None
            }
        }
    }
}

impl At<String> {
    pub fn parse<T>(self, problems: &mut Problems<'_>) -> Option<At<T>>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        match self.value.parse() {
            Ok(value) => Some(At {
                line: self.line,
                key: self.key,
                value,
            }),
            Err(error) => {
                problems.add(self.line, self.key, error.to_string());
                None
            }
        }
    }
}

/// Returns the integer that `value` is.
pub fn whole(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn flag(value: &DeValue<'_>) -> Option<bool> {
    value.as_bool()
}

/// Returns what to call `value` in a message.
pub fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

//! YAML with the line of every value.
//!
//! Only what a queue needs: one document of maps, lists and scalars. Aliases,
//! tags, keys that are no text, keys given twice and deep nesting are faults.

use std::collections::BTreeSet;

use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::TScalarStyle;

use crate::domain::plan::fields::Problems;

const DEPTH_MAX: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub line: u32,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    pub(super) fn kind(&self) -> &'static str {
        match self.what {
            What::Null => "nothing",
            What::Text(_) => "a text",
            What::List(_) => "a list",
            What::Map(_) => "a map",
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.what {
            What::Map(pairs) => pairs.iter().find(|(name, _)| name == key).map(|(_, n)| n),
            _ => None,
        }
    }
}

/// A map or list that is still open.
enum Open {
    List(u32, Vec<Node>),
    Map(OpenMap),
}

struct OpenMap {
    line: u32,
    pairs: Vec<(String, Node)>,
    names: BTreeSet<String>,
    /// The key whose value comes next.
    key: Option<String>,
}

/// Returns the document; faults go to `problems`, and then there is none.
pub(super) fn parse(text: &str, problems: &mut Problems<'_>) -> Option<Node> {
    let mut parser = Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    loop {
        let (event, mark) = match parser.next_token() {
            Ok(next) => next,
            Err(error) => {
                let at = error.marker().line();
                problems.add(line(at), "", format!("not YAML: {}", error.info()));
                return None;
            }
        };
        let at = line(mark.line());
        let node = match event {
            Event::StreamEnd => return root.filter(|_| problems.is_empty()),
            Event::DocumentStart if root.is_some() => {
                problems.add(at, "", "more than one YAML document");
                return None;
            }
            Event::Nothing | Event::StreamStart | Event::DocumentStart | Event::DocumentEnd => {
                continue;
            }
            Event::Alias(_) => {
                problems.add(at, "", "YAML aliases are not read here");
                return None;
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= DEPTH_MAX => {
                problems.add(at, "", format!("nested deeper than {DEPTH_MAX}"));
                return None;
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(at, Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(OpenMap {
                    line: at,
                    pairs: Vec::new(),
                    names: BTreeSet::new(),
                    key: None,
                }));
                continue;
            }
            Event::Scalar(text, style, _, tag) => {
                if tag.is_some() {
                    problems.add(at, "", "YAML tags are not read here");
                }
                scalar(at, text, style)
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(line, items)) => Node {
                    line,
                    what: What::List(items),
                },
                Some(Open::Map(map)) => Node {
                    line: map.line,
                    what: What::Map(map.pairs),
                },
                None => return None,
            },
        };
        put(node, &mut open, &mut root, problems);
    }
}

/// Puts a finished value where it belongs.
fn put(node: Node, open: &mut [Open], root: &mut Option<Node>, problems: &mut Problems<'_>) {
    let map = match open.last_mut() {
        None => {
            *root = Some(node);
            return;
        }
        Some(Open::List(_, items)) => {
            items.push(node);
            return;
        }
        Some(Open::Map(map)) => map,
    };
    if let Some(name) = map.key.take() {
        map.pairs.push((name, node));
        return;
    }
    let name = if let What::Text(name) = node.what {
        name
    } else {
        problems.add(node.line, "", "a key must be a text");
        String::new()
    };
    if !map.names.insert(name.clone()) {
        problems.add(node.line, name.clone(), "stands here twice");
    }
    map.key = Some(name);
}

fn scalar(line: u32, text: String, style: TScalarStyle) -> Node {
    let plain = style == TScalarStyle::Plain;
    let null = plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL");
    let what = if null { What::Null } else { What::Text(text) };
    Node { line, what }
}

fn line(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

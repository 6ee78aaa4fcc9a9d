//! From a pattern's text to its alternatives.
//!
//! Owns: the syntax, and the limits that keep every later decision bounded. Three
//! steps: the text becomes nodes, braces are multiplied out, and each alternative is cut into
//! components and checked for being a path that can exist.

use crate::domain::path::PathError;
use crate::domain::path::RepoPath;
use crate::domain::path::check_name;
use crate::domain::path::is_git_alias;
use crate::domain::pattern::PATTERN_MAX;
use crate::domain::pattern::error::PatternError;
use crate::domain::pattern::glob::ByteSet;
use crate::domain::pattern::glob::Glob;
use crate::domain::pattern::glob::Part;
use crate::domain::pattern::glob::Token;
use crate::domain::pattern::overlap;

/// How many alternatives the braces of one pattern may multiply out to.
const ALTERNATIVES_MAX: usize = 1024;
/// How many symbols all alternatives together may have.
const SYMBOLS_MAX: usize = 1 << 16;
const NESTING_MAX: usize = 32;
/// How many `*`, `**` and components one alternative of a glob may have.
const STARS_MAX: usize = 64;
const DEEP_MAX: usize = 8;
const PARTS_MAX: usize = 256;

pub(super) struct Parsed {
    pub(super) source: Vec<u8>,
    pub(super) literal: Option<RepoPath>,
    pub(super) example: RepoPath,
    pub(super) alternatives: Vec<Vec<Part>>,
}

pub(super) fn parse(text: &[u8]) -> Result<Parsed, PatternError> {
    check_text(text)?;
    let nodes = Parser { text, at: 0 }.sequence(0)?;
    if nodes
        .iter()
        .all(|n| matches!(n, Node::Byte(_) | Node::Slash))
    {
        return literal(text, &nodes);
    }
    let mut symbols = 0;
    let mut alternatives = Vec::new();
    for nodes in expand(&nodes, &mut symbols)? {
        alternatives.push(parts(&nodes)?);
    }
    let mut examples = (alternatives.iter()).map(|parts| overlap::shortest(parts));
    let example = examples.next().flatten().ok_or(PatternError::NoPath)?;
    if !examples.all(|path| path.is_some()) {
        return Err(PatternError::NoPath);
    }
    Ok(Parsed {
        source: text.to_vec(),
        literal: None,
        example,
        alternatives,
    })
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn check_text(text: &[u8]) -> Result<(), PatternError> {
    if text.is_empty() {
        return Err(PatternError::Empty);
    }
    if text.contains(&0) {
        return Err(PatternError::Nul);
    }
    if text.len() > PATTERN_MAX {
        return Err(PatternError::TooLong(text.len()));
    }
    if text[0] == b'/' {
        return Err(PatternError::Absolute {
            instead: without_empty(text),
        });
    }
    Ok(())
}

/// Suggests `text` without empty and `.` components.
fn without_empty(text: &[u8]) -> String {
    let parts: Vec<String> = text
        .split(|&b| b == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(show)
        .collect();
    if parts.is_empty() {
        "**".to_owned()
    } else {
        parts.join("/")
    }
}

fn literal(text: &[u8], nodes: &[Node]) -> Result<Parsed, PatternError> {
    let (source, nodes) = match nodes {
        [rest @ .., Node::Slash] => (without_slash(text), rest),
        all => (text, all),
    };
    if let [.., Node::Slash] = nodes {
        return Err(PatternError::EmptyComponent {
            instead: without_empty(text),
        });
    }
    let mut alternative = parts(nodes)?;
    let bytes: Vec<u8> = nodes.iter().map(Node::byte).collect();
    let path = RepoPath::parse(&bytes).map_err(|_| PatternError::NoPath)?;
    alternative.push(Part::Deep);
    Ok(Parsed {
        source: source.to_vec(),
        example: path.clone(),
        literal: Some(path),
        alternatives: vec![alternative],
    })
}

/// Drops the last `/`, and the `\` that escapes it.
fn without_slash(text: &[u8]) -> &[u8] {
    let text = &text[..text.len() - 1];
    let escapes = text.iter().rev().take_while(|&&b| b == b'\\').count();
    &text[..text.len() - escapes % 2]
}

enum Node {
    Byte(u8),
    Set(ByteSet),
    Star,
    Deep,
    Slash,
    Either(Vec<Vec<Node>>),
}

impl Node {
    fn byte(&self) -> u8 {
        match self {
            Self::Byte(byte) => *byte,
            _ => b'/',
        }
    }
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Reads up to the end, or inside braces up to their `,` or `}`.
    fn sequence(&mut self, depth: usize) -> Result<Vec<Node>, PatternError> {
        let mut nodes = Vec::new();
        while let Some(byte) = self.peek() {
            if depth > 0 && matches!(byte, b',' | b'}') {
                break;
            }
            self.at += 1;
            nodes.push(match byte {
                b'/' => Node::Slash,
                b'?' => Node::Set(ByteSet::any()),
                b'*' => self.stars()?,
                b'[' => Node::Set(self.class()?),
                b'{' => Node::Either(self.braces(depth + 1)?),
                b'}' => return Err(PatternError::StrayBrace),
                b'\\' => self.escaped()?,
                other => Node::Byte(other),
            });
        }
        Ok(nodes)
    }

    fn escaped(&mut self) -> Result<Node, PatternError> {
        let byte = self.peek().ok_or(PatternError::TrailingBackslash)?;
        self.at += 1;
        Ok(if byte == b'/' {
            Node::Slash
        } else {
            Node::Byte(byte)
        })
    }

    fn stars(&mut self) -> Result<Node, PatternError> {
        let more = self.text[self.at..]
            .iter()
            .take_while(|&&b| b == b'*')
            .count();
        self.at += more;
        match more {
            0 => Ok(Node::Star),
            1 => Ok(Node::Deep),
            _ => Err(PatternError::DeepNotAlone),
        }
    }

    fn braces(&mut self, depth: usize) -> Result<Vec<Vec<Node>>, PatternError> {
        if depth > NESTING_MAX {
            return Err(PatternError::TooComplex {
                what: "braces inside one another",
                max: NESTING_MAX,
            });
        }
        if self.peek() == Some(b'}') {
            return Err(PatternError::EmptyBraces);
        }
        let mut branches = Vec::new();
        loop {
            branches.push(self.sequence(depth)?);
            let end = self.peek();
            self.at += 1;
            match end {
                Some(b',') => {}
                Some(b'}') => return Ok(branches),
                _ => return Err(PatternError::UnclosedBrace),
            }
        }
    }

    fn class(&mut self) -> Result<ByteSet, PatternError> {
        let negated = matches!(self.peek(), Some(b'!' | b'^'));
        self.at += usize::from(negated);
        let mut set = ByteSet::EMPTY;
        let mut first = true;
        loop {
            match self.peek().ok_or(PatternError::UnclosedClass)? {
                b']' if !first => break,
                b'[' if self.text.get(self.at + 1) == Some(&b':') => self.named(&mut set)?,
                _ => self.range(&mut set)?,
            }
            first = false;
        }
        self.at += 1;
        let set = if negated { set.negate() } else { set };
        if set.is_empty() {
            return Err(PatternError::EmptyClass);
        }
        Ok(set)
    }

    fn range(&mut self, set: &mut ByteSet) -> Result<(), PatternError> {
        let from = self.member()?;
        let next = self.text.get(self.at + 1);
        if self.peek() != Some(b'-') || matches!(next, None | Some(b']')) {
            set.insert(from);
            return Ok(());
        }
        self.at += 1;
        let to = self.member()?;
        if from > to {
            let show = |byte: u8| byte.escape_ascii().to_string();
            return Err(PatternError::EmptyRange {
                from: show(from),
                to: show(to),
            });
        }
        (from..=to).for_each(|byte| set.insert(byte));
        Ok(())
    }

    /// Reads one byte of a class.
    fn member(&mut self) -> Result<u8, PatternError> {
        if self.peek() == Some(b'\\') {
            self.at += 1;
        }
        let rest = self.text.get(self.at..).unwrap_or_default();
        let byte = *rest.first().ok_or(PatternError::UnclosedClass)?;
        if byte == b'/' {
            // `[a/b` without its end is a slip of another kind.
            return Err(if rest.contains(&b']') {
                PatternError::SlashInClass
            } else {
                PatternError::UnclosedClass
            });
        }
        if !byte.is_ascii() {
            let letter = rest
                .utf8_chunks()
                .next()
                .and_then(|c| c.valid().chars().next());
            if let Some(letter) = letter {
                let letter = letter.to_string();
                return Err(PatternError::WideLetter { letter });
            }
        }
        self.at += 1;
        Ok(byte)
    }

    /// Reads `[:name:]` inside a class.
    fn named(&mut self, set: &mut ByteSet) -> Result<(), PatternError> {
        let rest = &self.text[self.at + 2..];
        let len = (rest.windows(2).position(|two| two == b":]"))
            .filter(|&len| rest[..len].iter().all(u8::is_ascii_alphabetic))
            .ok_or(PatternError::UnclosedClass)?;
        let holds: fn(&u8) -> bool = match &rest[..len] {
            b"alnum" => u8::is_ascii_alphanumeric,
            b"alpha" => u8::is_ascii_alphabetic,
            b"blank" => |b| matches!(b, b' ' | b'\t'),
            b"digit" => u8::is_ascii_digit,
            b"graph" => u8::is_ascii_graphic,
            b"lower" => u8::is_ascii_lowercase,
            b"print" => |b| (b' '..=b'~').contains(b),
            b"punct" => u8::is_ascii_punctuation,
            b"space" => |b| b.is_ascii_whitespace() || *b == 11,
            b"upper" => u8::is_ascii_uppercase,
            b"word" => |b| b.is_ascii_alphanumeric() || *b == b'_',
            b"xdigit" => u8::is_ascii_hexdigit,
            other => return Err(PatternError::UnknownClass { name: show(other) }),
        };
        (0..=255_u8).filter(holds).for_each(|byte| set.insert(byte));
        self.at += len + 4;
        Ok(())
    }
}

/// Multiplies the braces out.
fn expand<'a>(nodes: &'a [Node], symbols: &mut usize) -> Result<Vec<Vec<&'a Node>>, PatternError> {
    let mut out = vec![Vec::new()];
    for node in nodes {
        let Node::Either(branches) = node else {
            *symbols += out.len();
            check_symbols(*symbols)?;
            for one in &mut out {
                one.push(node);
            }
            continue;
        };
        let mut ends = Vec::new();
        for branch in branches {
            ends.extend(expand(branch, symbols)?);
        }
        if out.len() * ends.len() > ALTERNATIVES_MAX {
            return Err(PatternError::TooComplex {
                what: "alternatives in its braces",
                max: ALTERNATIVES_MAX,
            });
        }
        let mut longer = Vec::with_capacity(out.len() * ends.len());
        for start in &out {
            for end in &ends {
                *symbols += start.len() + end.len();
                check_symbols(*symbols)?;
                longer.push([start.as_slice(), end.as_slice()].concat());
            }
        }
        out = longer;
    }
    Ok(out)
}

fn check_symbols(symbols: usize) -> Result<(), PatternError> {
    if symbols <= SYMBOLS_MAX {
        return Ok(());
    }
    Err(PatternError::TooComplex {
        what: "characters when its braces are written out",
        max: SYMBOLS_MAX,
    })
}

trait AsNode {
    fn node(&self) -> &Node;
}

impl AsNode for Node {
    fn node(&self) -> &Node {
        self
    }
}

impl AsNode for &Node {
    fn node(&self) -> &Node {
        self
    }
}

/// Cuts one alternative into components and checks each.
fn parts<N: AsNode>(nodes: &[N]) -> Result<Vec<Part>, PatternError> {
    let mut parts = Vec::new();
    let mut stars = 0;
    let names: Vec<&[N]> = nodes.split(|n| matches!(n.node(), Node::Slash)).collect();
    for (at, name) in names.iter().enumerate() {
        match *name {
            [] => return Err(empty_component(nodes, at + 1 == names.len())),
            [one] if matches!(one.node(), Node::Deep) => {
                if !matches!(parts.last(), Some(Part::Deep)) {
                    parts.push(Part::Deep);
                }
            }
            _ => parts.push(part(nodes, name, &mut stars)?),
        }
    }
    let plain = parts.iter().all(|part| matches!(part, Part::Name(_)));
    let deep = parts.iter().filter(|part| part.is_deep()).count();
    for (what, count, max) in [
        ("`*`", stars, STARS_MAX),
        ("`**`", deep, DEEP_MAX),
        ("components", if plain { 0 } else { parts.len() }, PARTS_MAX),
    ] {
        if count > max {
            return Err(PatternError::TooComplex { what, max });
        }
    }
    Ok(parts)
}

/// Writes nodes out again, for an error's words.
fn text_of<N: AsNode>(nodes: &[N]) -> Vec<u8> {
    let mut text = Vec::new();
    for node in nodes {
        match node.node() {
            Node::Byte(byte) => text.push(*byte),
            Node::Set(set) if *set == ByteSet::any() => text.push(b'?'),
            Node::Set(_) => text.extend_from_slice("[…]".as_bytes()),
            Node::Star => text.push(b'*'),
            Node::Deep => text.extend_from_slice(b"**"),
            Node::Slash => text.push(b'/'),
            Node::Either(_) => {} // multiplied out before
        }
    }
    text
}

fn empty_component<N: AsNode>(nodes: &[N], last: bool) -> PatternError {
    let text = text_of(nodes);
    let instead = without_empty(&text);
    if last && text.len() > 1 && !text.windows(2).any(|two| two == b"//") {
        let instead = format!("{instead}/**");
        return PatternError::TrailingSlash { instead };
    }
    PatternError::EmptyComponent { instead }
}

fn part<N: AsNode>(all: &[N], name: &[N], stars: &mut usize) -> Result<Part, PatternError> {
    let mut tokens = Vec::with_capacity(name.len());
    for node in name {
        match node.node() {
            Node::Byte(byte) => tokens.push(Token::Byte(*byte)),
            Node::Set(set) => tokens.push(Token::Set(*set)),
            Node::Star if tokens.last() == Some(&Token::Star) => {} // as in `{*,a}*`
            Node::Star => {
                *stars += 1;
                tokens.push(Token::Star);
            }
            Node::Deep | Node::Slash | Node::Either(_) => return Err(PatternError::DeepNotAlone),
        }
    }
    let bytes: Option<Box<[u8]>> = (tokens.iter())
        .map(|token| match token {
            Token::Byte(byte) => Some(*byte),
            _ => None,
        })
        .collect();
    if let Some(bytes) = bytes {
        check_plain(all, &bytes)?;
        return Ok(Part::Name(bytes));
    }
    match overlap::example(&tokens) {
        Some(example) => Ok(Part::Glob(Glob {
            tokens: tokens.into(),
            example: example.into(),
        })),
        None => Err(PatternError::NoName {
            component: show(&text_of(name)),
        }),
    }
}

fn check_plain<N: AsNode>(all: &[N], name: &[u8]) -> Result<(), PatternError> {
    match check_name(name) {
        Ok(()) if is_git_alias(name) => Err(PatternError::GitDirectory {
            component: show(name),
        }),
        Ok(()) => Ok(()),
        Err(PathError::Dots) if name == b"." => Err(PatternError::Dot {
            instead: without_empty(&text_of(all)),
        }),
        Err(PathError::Dots) => Err(PatternError::DotDot),
        Err(PathError::NameTooLong) => Err(PatternError::NameTooLong),
        Err(_) => Err(PatternError::EmptyComponent {
            instead: without_empty(&text_of(all)),
        }),
    }
}

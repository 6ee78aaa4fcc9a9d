//! Working-tree encodings: UTF-8 in the blob, something else in the file.
//!
//! Owns: the UTF-16 and UTF-32 forms with git's rules for byte order marks, Latin-1,
//! and tables for legacy encodings. The tables are those of the WHATWG, corrected to
//! what the GNU library's iconv says, which git asks (compared character by
//! character); where that cannot be done (EUC-JP, Big5, ISO-2022 …) the encoding
//! counts as unknown. An unknown encoding is not applied, in neither direction.

use encoding_rs::DecoderResult;
use encoding_rs::EncoderResult;

use super::ConvertError;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Encoding {
    /// As the attribute spells it.
    name: String,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    Wide {
        unit: Unit,
        big: bool,
        mark: Mark,
    },
    /// One byte a character, up to that code point.
    Direct {
        max: u8,
    },
    Table(&'static Table),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Unit {
    Two,
    Four,
}

/// What git demands of the byte order mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mark {
    /// `UTF-16BE` and its like: the name says the order.
    Prohibited,
    /// `UTF-16`: either order is read, the native one is written.
    Required,
    /// `UTF-16LE-BOM`: either order is read, that one is written, always with a mark.
    Written,
}

impl Encoding {
    /// Finds an encoding by the attribute's value; UTF-8 needs no conversion.
    pub fn named(value: &[u8]) -> Option<Self> {
        let name = std::str::from_utf8(value).ok()?;
        let upper = name.to_ascii_uppercase();
        let form = match upper.strip_prefix("UTF") {
            Some(rest) => wide(rest.strip_prefix('-').unwrap_or(rest))?,
            None => narrow(&upper)?,
        };
        Some(Self {
            name: name.to_owned(),
            form,
        })
    }

    /// Returns UTF-8 text in this encoding; nothing if it is not UTF-8 or cannot be expressed.
    pub(super) fn encode(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        if bytes.is_empty() {
            return None;
        }
        let text = std::str::from_utf8(bytes).ok()?;
        match self.form {
            Form::Wide { unit, big, mark } => Some(encode_wide(text, unit, big, mark)),
            Form::Direct { max } => {
                let byte = |c| u8::try_from(c).ok().filter(|byte| *byte <= max);
                text.chars().map(byte).collect()
            }
            Form::Table(table) => table.encode(text),
        }
    }

    /// Returns the file's content as UTF-8.
    pub(super) fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>, ConvertError> {
        let invalid = || ConvertError::NotInEncoding {
            encoding: self.name.clone(),
        };
        let text = match self.form {
            Form::Wide { unit, big, mark } => {
                let (body, big) = self.strip_mark(bytes, unit, big, mark)?;
                decode_wide(body, unit, big).ok_or_else(invalid)?
            }
            Form::Direct { max } => {
                let char = |byte: &u8| (*byte <= max).then_some(char::from(*byte));
                bytes
                    .iter()
                    .map(char)
                    .collect::<Option<String>>()
                    .ok_or_else(invalid)?
            }
            Form::Table(table) => table.decode(bytes).ok_or_else(invalid)?,
        };
        let text = text.into_bytes();
        // A table may know two spellings of one character; a merge must not choose.
        let exact = match self.form {
            Form::Wide { .. } | Form::Direct { .. } => true,
            Form::Table(_) => self.encode(&text).as_deref() == Some(bytes),
        };
        exact
            .then_some(text)
            .ok_or_else(|| ConvertError::RoundTrip {
                encoding: self.name.clone(),
            })
    }

    /// Returns the text after its mark, and whether it is big-endian.
    fn strip_mark<'a>(
        &self,
        bytes: &'a [u8],
        unit: Unit,
        big: bool,
        mark: Mark,
    ) -> Result<(&'a [u8], bool), ConvertError> {
        let marks: [(&[u8], bool); 2] = match unit {
            Unit::Two => [(b"\xff\xfe", false), (b"\xfe\xff", true)],
            Unit::Four => [(b"\xff\xfe\0\0", false), (b"\0\0\xfe\xff", true)],
        };
        let found = marks
            .iter()
            .find_map(|(text, big)| Some((bytes.strip_prefix(*text)?, *big)));
        match (mark, found) {
            (Mark::Prohibited, Some(_)) => Err(ConvertError::ProhibitedMark {
                encoding: self.name.clone(),
            }),
            (Mark::Required, None) => Err(ConvertError::MissingMark {
                encoding: self.name.clone(),
            }),
            (Mark::Required | Mark::Written, Some(found)) => Ok(found),
            (Mark::Prohibited | Mark::Written, None) => Ok((bytes, big)),
        }
    }
}

fn wide(rest: &str) -> Option<Form> {
    let (unit, rest) = match rest.split_at_checked(2)? {
        ("16", rest) => (Unit::Two, rest),
        ("32", rest) => (Unit::Four, rest),
        _ => return None,
    };
    let (big, mark) = match (unit, rest) {
        // The GNU library writes the machine's order after a mark.
        (_, "") => (cfg!(target_endian = "big"), Mark::Required),
        (_, "LE") => (false, Mark::Prohibited),
        (_, "BE") => (true, Mark::Prohibited),
        (Unit::Two, "LE-BOM") => (false, Mark::Written),
        (Unit::Two, "BE-BOM") => (true, Mark::Written),
        _ => return None,
    };
    Some(Form::Wide { unit, big, mark })
}

fn encode_wide(text: &str, unit: Unit, big: bool, mark: Mark) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() * 2 + 4);
    let marked = (mark != Mark::Prohibited).then_some('\u{feff}');
    for c in marked.into_iter().chain(text.chars()) {
        match unit {
            Unit::Two => {
                for half in c.encode_utf16(&mut [0; 2]) {
                    let pair = if big {
                        half.to_be_bytes()
                    } else {
                        half.to_le_bytes()
                    };
                    out.extend_from_slice(&pair);
                }
            }
            Unit::Four => {
                let code = u32::from(c);
                out.extend_from_slice(&if big {
                    code.to_be_bytes()
                } else {
                    code.to_le_bytes()
                });
            }
        }
    }
    out
}

fn decode_wide(bytes: &[u8], unit: Unit, big: bool) -> Option<String> {
    match unit {
        Unit::Two => {
            let (pairs, rest) = bytes.as_chunks::<2>();
            let halves = pairs.iter().map(|pair| {
                if big {
                    u16::from_be_bytes(*pair)
                } else {
                    u16::from_le_bytes(*pair)
                }
            });
            let text = char::decode_utf16(halves)
                .collect::<Result<String, _>>()
                .ok();
            text.filter(|_| rest.is_empty())
        }
        Unit::Four => {
            let (quads, rest) = bytes.as_chunks::<4>();
            let codes = quads.iter().map(|quad| {
                if big {
                    u32::from_be_bytes(*quad)
                } else {
                    u32::from_le_bytes(*quad)
                }
            });
            let text = codes.map(char::from_u32).collect::<Option<String>>();
            text.filter(|_| rest.is_empty())
        }
    }
}

/// Finds a legacy encoding by the names that iconv knows it by.
fn narrow(upper: &str) -> Option<Form> {
    let plain: String = upper.chars().filter(char::is_ascii_alphanumeric).collect();
    match plain.as_str() {
        "ISO88591" | "LATIN1" | "L1" => return Some(Form::Direct { max: 0xff }),
        "ASCII" | "USASCII" => return Some(Form::Direct { max: 0x7f }),
        _ => {}
    }
    let table = TABLES
        .iter()
        .find(|table| table.names.contains(&plain.as_str()))?;
    Some(Form::Table(table))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Table {
    /// Without punctuation.
    names: &'static [&'static str],
    whatwg: &'static encoding_rs::Encoding,
    /// Characters that iconv reads otherwise: the table's, iconv's.
    swaps: &'static [(char, char)],
}

const fn table(names: &'static [&'static str], whatwg: &'static encoding_rs::Encoding) -> Table {
    Table {
        names,
        whatwg,
        swaps: &[],
    }
}

static TABLES: [Table; 25] = [
    table(&["CP1250", "WINDOWS1250"], encoding_rs::WINDOWS_1250),
    table(&["CP1251", "WINDOWS1251"], encoding_rs::WINDOWS_1251),
    table(&["CP1252", "WINDOWS1252"], encoding_rs::WINDOWS_1252),
    table(&["CP1253", "WINDOWS1253"], encoding_rs::WINDOWS_1253),
    table(&["CP1254", "WINDOWS1254"], encoding_rs::WINDOWS_1254),
    table(&["CP1256", "WINDOWS1256"], encoding_rs::WINDOWS_1256),
    table(&["CP1257", "WINDOWS1257"], encoding_rs::WINDOWS_1257),
    table(&["ISO88592", "LATIN2", "L2"], encoding_rs::ISO_8859_2),
    table(&["ISO88593", "LATIN3", "L3"], encoding_rs::ISO_8859_3),
    table(&["ISO88594", "LATIN4", "L4"], encoding_rs::ISO_8859_4),
    table(&["ISO88595"], encoding_rs::ISO_8859_5),
    table(&["ISO88596"], encoding_rs::ISO_8859_6),
    table(&["ISO88597"], encoding_rs::ISO_8859_7),
    table(&["ISO88598"], encoding_rs::ISO_8859_8),
    table(&["ISO885910", "LATIN6", "L6"], encoding_rs::ISO_8859_10),
    table(&["ISO885913", "LATIN7", "L7"], encoding_rs::ISO_8859_13),
    table(&["ISO885914", "LATIN8", "L8"], encoding_rs::ISO_8859_14),
    table(&["ISO885915", "LATIN9"], encoding_rs::ISO_8859_15),
    table(&["ISO885916", "LATIN10", "L10"], encoding_rs::ISO_8859_16),
    table(&["KOI8R"], encoding_rs::KOI8_R),
    table(&["IBM866", "CP866", "866"], encoding_rs::IBM866),
    table(&["GBK", "CP936", "MS936", "WINDOWS936"], encoding_rs::GBK),
    table(&["GB18030"], encoding_rs::GB18030),
    table(&["EUCKR", "UHC", "CP949"], encoding_rs::EUC_KR),
    Table {
        names: &["SHIFTJIS", "SJIS", "MSKANJI"],
        whatwg: encoding_rs::SHIFT_JIS,
        swaps: &[
            ('\u{ff5e}', '\u{301c}'),
            ('\u{2225}', '\u{2016}'),
            ('\u{ff0d}', '\u{2212}'),
            ('\u{ffe0}', '\u{a2}'),
            ('\u{ffe1}', '\u{a3}'),
            ('\u{ffe2}', '\u{ac}'),
        ],
    },
];

impl Table {
    fn encode(&self, text: &str) -> Option<Vec<u8>> {
        let swapped: String;
        let text = if self.swaps.is_empty() {
            text
        } else {
            swapped = text
                .chars()
                .map(|c| self.to_table(c))
                .collect::<Option<_>>()?;
            &swapped
        };
        if text.chars().any(|c| self.refuses(c)) {
            return None;
        }
        let mut encoder = self.whatwg.new_encoder();
        let room = encoder.max_buffer_length_from_utf8_without_replacement(text.len())?;
        let mut out = Vec::with_capacity(room);
        let (result, _) = encoder.encode_from_utf8_to_vec_without_replacement(text, &mut out, true);
        matches!(result, EncoderResult::InputEmpty).then_some(out)
    }

    fn decode(&self, bytes: &[u8]) -> Option<String> {
        let mut decoder = self.whatwg.new_decoder_without_bom_handling();
        let room = decoder.max_utf8_buffer_length_without_replacement(bytes.len())?;
        let mut out = String::with_capacity(room);
        let (result, _) = decoder.decode_to_string_without_replacement(bytes, &mut out, true);
        if !matches!(result, DecoderResult::InputEmpty) || out.chars().any(|c| self.refuses(c)) {
            return None;
        }
        if self.swaps.is_empty() {
            return Some(out);
        }
        Some(out.chars().map(|c| self.to_iconv(c)).collect())
    }

    /// The WHATWG fills the holes of single-byte tables with control characters.
    fn refuses(&self, c: char) -> bool {
        matches!(c, '\u{80}'..='\u{9f}') && !self.names[0].starts_with("ISO")
    }

    fn to_table(&self, c: char) -> Option<char> {
        match self
            .swaps
            .iter()
            .find(|(table, iconv)| *table == c || *iconv == c)
        {
            Some((table, iconv)) if *iconv == c => Some(*table),
            Some(_) => None,
            None => Some(c),
        }
    }

    fn to_iconv(&self, c: char) -> char {
        let swap = self.swaps.iter().find(|(table, _)| *table == c);
        swap.map_or(c, |(_, iconv)| *iconv)
    }
}

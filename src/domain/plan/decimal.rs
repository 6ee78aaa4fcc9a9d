//! Exact decimal numbers.
//!
//! Owns: numbers with up to six decimals, as coverage is given in. Ledger lines
//! hold no floating point, and a gate must not turn on its rounding.

use std::fmt;
use std::str::FromStr;

const PLACES: usize = 6;
const UNIT: i64 = 1_000_000;

/// A number in millionths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Decimal(i64);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a plain decimal number with at most {PLACES} decimals")]
pub struct DecimalError(String);

impl Decimal {
    pub const ZERO: Self = Self(0);

    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        read(text).ok_or_else(|| DecimalError(text.chars().take(40).collect()))
    }
}

fn read(text: &str) -> Option<Decimal> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let part = match part.trim_end_matches('0') {
        "" if plain(part) => "0",
        trimmed => trimmed,
    };
    if !plain(whole) || !plain(part) || part.len() > PLACES {
        return None;
    }
    let part: i64 = format!("{part:0<PLACES$}").parse().ok()?;
    let whole: i64 = whole.parse().ok()?;
    whole
        .checked_mul(UNIT)?
        .checked_add(part)?
        .checked_mul(sign)
        .map(Decimal)
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.unsigned_abs();
        let (whole, part) = (size / UNIT.unsigned_abs(), size % UNIT.unsigned_abs());
        let sign = if self.0 < 0 { "-" } else { "" };
        if part == 0 {
            return write!(f, "{sign}{whole}");
        }
        let part = format!("{part:0PLACES$}");
        write!(f, "{sign}{whole}.{}", part.trim_end_matches('0'))
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimals_are_exact_and_have_one_spelling() {
        for (text, spelled) in [
            ("0", "0"),
            ("-0.50", "-0.5"),
            ("+1", "1"),
            ("87.123456", "87.123456"),
            ("1.0000000", "1"),
            ("-0", "0"),
        ] {
            let number: Decimal = text.parse().expect(text);
            assert_eq!(number.to_string(), spelled, "{text}");
        }
        for text in [
            "",
            "-",
            ".5",
            "5.",
            "1e3",
            "inf",
            "nan",
            "1.1234567",
            "--1",
            "1_0",
            " 1",
            "99999999999999",
        ] {
            assert!(text.parse::<Decimal>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(millionths in -1_000_000_000_000_i64..1_000_000_000_000) {
            let number = Decimal(millionths);
            prop_assert_eq!(number.to_string().parse(), Ok(number));
        }
    }
}

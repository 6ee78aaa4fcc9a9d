//! Points in time as entries carry them, and leases.
//!
//! Owns: the timestamp (nanoseconds since 1970, RFC 3339 UTC with 9 digits), the
//! rule that a chain's timestamps only grow, and the arithmetic of leases, which
//! run on the boot clock and after a reboot on timestamps. Never reads a clock:
//! the one clock is `app`'s, and a [`Now`] is handed in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time: expected RFC 3339 UTC, for example 2026-11-20T06:30:00.000000000Z")]
pub struct TimeError;

/// The length of a written timestamp.
pub const TIMESTAMP_LEN: usize = 30;
const NANOS: i64 = 1_000_000_000;

impl Timestamp {
    /// Returns the timestamp of the entry after one at `previous`: clocks may jump back, a chain may not.
    #[must_use]
    pub fn after(self, previous: Self) -> Self {
        Self(self.0.max(previous.0 + 1))
    }

    /// Writes the 30 bytes `YYYY-MM-DDTHH:MM:SS.nnnnnnnnnZ`.
    pub fn write(self, out: &mut [u8; TIMESTAMP_LEN]) {
        let seconds = self.0.div_euclid(NANOS);
        let nanos = self.0.rem_euclid(NANOS);
        let (year, month, day) = civil(seconds.div_euclid(86_400));
        let of_day = seconds.rem_euclid(86_400);
        out.copy_from_slice(b"0000-00-00T00:00:00.000000000Z");
        digits(&mut out[0..4], year);
        digits(&mut out[5..7], month);
        digits(&mut out[8..10], day);
        digits(&mut out[11..13], of_day / 3600);
        digits(&mut out[14..16], of_day / 60 % 60);
        digits(&mut out[17..19], of_day % 60);
        digits(&mut out[20..29], nanos);
    }

    /// Reads exactly what [`Timestamp::write`] writes.
    pub fn parse(text: &[u8]) -> Result<Self, TimeError> {
        if text.len() != TIMESTAMP_LEN {
            return Err(TimeError);
        }
        let number = |from: usize, to: usize| -> Result<i64, TimeError> {
            text[from..to].iter().try_fold(0_i64, |sum, &byte| {
                if byte.is_ascii_digit() {
                    Ok(sum * 10 + i64::from(byte - b'0'))
                } else {
                    Err(TimeError)
                }
            })
        };
        let days = days_from_civil(number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let of_day = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
        let time = (days * 86_400 + of_day)
            .checked_mul(NANOS)
            .and_then(|base| base.checked_add(number(20, 29).unwrap_or(0)))
            .map(Self)
            .ok_or(TimeError)?;
        let mut again = [0; TIMESTAMP_LEN];
        time.write(&mut again);
        if again == text {
            Ok(time)
        } else {
            Err(TimeError)
        }
    }
}

fn digits(out: &mut [u8], mut value: i64) {
    for slot in out.iter_mut().rev() {
        *slot = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
}

/// Days since 1970 to (year, month, day), proleptic Gregorian.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (
        yoe + era * 400 + i64::from(month <= 2),
        month,
        doy - (153 * mp + 2) / 5 + 1,
    )
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let mp = (month + 9) % 12;
    let doy = (153 * mp + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = [0; TIMESTAMP_LEN];
        self.write(&mut out);
        f.write_str(std::str::from_utf8(&out).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        Self::parse(text.as_bytes())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What the clocks said when a command began; the only time that rules see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Now {
    pub ts: Timestamp,
    /// The kernel's boot id, and the boot clock in milliseconds.
    pub boot: String,
    pub boot_ms: u64,
}

/// A right that ends by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    pub from: Timestamp,
    pub ttl_ms: u64,
    pub boot: String,
    pub boot_ms: u64,
}

impl Lease {
    pub fn new(now: &Now, ttl_ms: u64) -> Self {
        Self {
            from: now.ts,
            ttl_ms,
            boot: now.boot.clone(),
            boot_ms: now.boot_ms,
        }
    }

    /// Returns the milliseconds left: by the boot clock in the same boot, by timestamps after a reboot.
    pub fn left_ms(&self, now: &Now) -> u64 {
        let gone = if now.boot == self.boot {
            now.boot_ms.saturating_sub(self.boot_ms)
        } else {
            u64::try_from((now.ts.0 - self.from.0).max(0) / 1_000_000).unwrap_or(0)
        };
        self.ttl_ms.saturating_sub(gone)
    }

    pub fn is_over(&self, now: &Now) -> bool {
        self.left_ms(now) == 0
    }

    /// Returns when it ends, as far as the wall clock can say.
    pub fn expires(&self) -> Timestamp {
        let ttl = i64::try_from(self.ttl_ms)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000_000);
        Timestamp(self.from.0.saturating_add(ttl))
    }
}

/// Reads a duration: `90s`, `30m`, `2h`, `7d`, or several parts as in `1h30m`. Returns milliseconds.
pub fn parse_duration(text: &str) -> Option<u64> {
    let mut total = 0_u64;
    let mut number = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit = match c {
            'm' if chars.peek() == Some(&'s') => {
                chars.next();
                1
            }
            's' => 1000,
            'm' => 60_000,
            'h' => 3_600_000,
            'd' => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        number.clear();
    }
    (number.is_empty() && !text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_timestamp_has_nine_digits_and_one_spelling() {
        let ts = Timestamp(1_795_156_200_000_000_007);
        assert_eq!(ts.to_string(), "2026-11-20T06:30:00.000000007Z");
        assert_eq!(ts.to_string().parse(), Ok(ts));
        for bad in [
            "",
            "2026-11-20T06:30:00Z",
            "2026-13-20T06:30:00.000000000Z",
            "2026-02-30T06:30:00.000000000Z",
        ] {
            assert_eq!(bad.parse::<Timestamp>(), Err(TimeError), "{bad}");
        }
        assert_eq!(Timestamp(5).after(Timestamp(9)), Timestamp(10));
    }

    #[test]
    fn durations_have_units() {
        for (text, ms) in [
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("7d", 604_800_000),
        ] {
            assert_eq!(parse_duration(text), Some(ms), "{text}");
        }
        for text in ["", "5", "h", "1w", "-1s", "99999999999999999999s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_lease_runs_on_the_boot_clock_and_after_a_reboot_on_timestamps() {
        let now = |ts: i64, boot: &str, boot_ms| Now {
            ts: Timestamp(ts * 1_000_000),
            boot: boot.into(),
            boot_ms,
        };
        let lease = Lease::new(&now(1_000, "a", 50), 100);
        assert_eq!(lease.left_ms(&now(9_999_999, "a", 149)), 1); // the wall clock jumped: no matter
        assert!(lease.is_over(&now(0, "a", 150)));
        assert_eq!(lease.left_ms(&now(1_040, "b", 1)), 60);
        assert!(lease.is_over(&now(1_100, "b", 1)));
        assert_eq!(lease.left_ms(&now(0, "b", 1)), 100);
    }

    proptest! {
        #[test]
        fn timestamps_round_trip(ns in 0_i64..4_000_000_000_000_000_000) {
            prop_assert_eq!(Timestamp(ns).to_string().parse(), Ok(Timestamp(ns)));
        }
    }
}

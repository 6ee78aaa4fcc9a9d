//! What a `merge` entry keeps of each path.
//!
//! Owns: the record that ties a path of the merge commit to the session's
//! version: base, session and result blob, and the version's SHA-256. After a
//! conversion or a three-way merge it is all that accounts for the bytes.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Status;
use crate::domain::base::Oid;
use crate::domain::digest::Digest;
use crate::domain::path::RepoPath;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MergeRecord {
    pub path: RepoPath,
    pub status: Status,
    /// The blob in the session's base.
    #[serde(with = "hex", default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Oid>,
    /// The blob that the session's version became.
    #[serde(with = "hex", default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Oid>,
    /// The blob in the merge commit.
    #[serde(with = "hex", default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Oid>,
    /// The raw mode in the merge commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// The version's bytes, as the session saw them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

/// Orders records as they are shown and logged: removals first, then by path.
pub fn sort_records(records: &mut [MergeRecord]) {
    records.sort_by(|a, b| {
        let rank = |record: &MergeRecord| record.status != Status::Deleted;
        rank(a).cmp(&rank(b)).then_with(|| a.path.cmp(&b.path))
    });
}

mod hex {
    use serde::de::Error as _;

    use super::{Deserialize, Deserializer, Oid, Serializer};

    #[expect(clippy::ref_option, reason = "the form that serde calls")]
    pub(super) fn serialize<S: Serializer>(oid: &Option<Oid>, to: S) -> Result<S::Ok, S::Error> {
        match oid {
            Some(oid) => to.serialize_some(&oid.to_string()),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Oid>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else {
            return Ok(None);
        };
        let mut oid = [0; 20];
        let digits = text.as_bytes();
        let fine = digits.len() == 40
            && oid
                .iter_mut()
                .zip(digits.chunks_exact(2))
                .all(|(byte, pair)| {
                    let pair = std::str::from_utf8(pair).unwrap_or_default();
                    let value = u8::from_str_radix(pair, 16);
                    *byte = *value.as_ref().unwrap_or(&0);
                    value.is_ok() && pair.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
                });
        if fine {
            Ok(Some(Oid(oid)))
        } else {
            Err(D::Error::custom(
                "not an object id (40 lower-case hex digits)",
            ))
        }
    }
}

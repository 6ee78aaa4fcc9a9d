//! Checkpoints: signed statements of a ledger's size and root.
//!
//! Owns: origins, Ed25519 keys as values, and the text of a checkpoint, which is
//! a C2SP `tlog-checkpoint` in a C2SP `signed-note`, so that existing witnesses
//! and verifiers can read it:
//!
//! ```text
//! <origin>                                    the text: these three lines, each
//! <size, decimal>                             with its newline, are what is signed
//! <root, base64>
//!
//! — <key name> <base64(key id ‖ signature)>   one or more; the origin's own first
//! ```
//!
//! key id = the first 4 bytes of `SHA-256(key name ‖ "\n" ‖ 0x01 ‖ public key)`. A
//! ledger's own key is named after its origin. Every part is accepted in its one
//! spelling only (decimal without leading zeros, padded canonical base64).
//!
//! A key that takes over is signed by the one before it: Ed25519 over
//! `"govfs/key/v1\n" ‖ origin ‖ "\n" ‖ previous ‖ "\n" ‖ public ‖ "\n"`, both keys as
//! 64 lower-case hex digits.
//!
//! Never reads or makes a key: secret bytes are handed in (`store::keys` keeps them).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize};

use crate::domain::digest::{Digest, Hasher};
use crate::domain::proof::Stated;

const DASH: &str = "\u{2014} ";
const ED25519: u8 = 1;
/// What stands before the 32 bytes of an Ed25519 key in a `SubjectPublicKeyInfo`.
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    #[error(
        "{text:?} is not an origin: 1 to 100 of A-Z a-z 0-9 . _ -, and the first a letter or digit"
    )]
    Origin { text: String },
    #[error("not a checkpoint: {what}")]
    Malformed { what: &'static str },
    #[error("the checkpoint's first signature is by {found}, not by its origin {origin}")]
    Name { origin: Origin, found: String },
    #[error("the checkpoint was signed by another key than the one given")]
    OtherKey,
    #[error("the checkpoint's signature does not verify")]
    Signature,
    #[error("not an Ed25519 public key in DER (SubjectPublicKeyInfo)")]
    Der,
    #[error("not an Ed25519 key")]
    Key,
}

const fn malformed(what: &'static str) -> CheckpointError {
    CheckpointError::Malformed { what }
}

/// The name of one ledger: unique, and usable as a file's name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Origin(String);

impl Origin {
    /// Makes an origin of 16 random bytes.
    pub fn of_random(bytes: [u8; 16]) -> Self {
        Self(format!("govfs-{:032x}", u128::from_be_bytes(bytes)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let fits = (1..=100).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(plain);
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(CheckpointError::Origin {
                text: text.chars().take(120).collect(),
            })
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// An Ed25519 public key; 64 hex digits in entries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PublicKey(Digest);

impl PublicKey {
    pub const fn of_bytes(bytes: [u8; 32]) -> Self {
        Self(Digest(bytes))
    }

    pub const fn bytes(&self) -> [u8; 32] {
        self.0.0
    }

    /// Returns the `SubjectPublicKeyInfo` that `openssl pkey -pubin -inform DER` reads.
    pub fn der(&self) -> Vec<u8> {
        [&SPKI_PREFIX[..], &self.0.0].concat()
    }

    pub fn from_der(der: &[u8]) -> Result<Self, CheckpointError> {
        der.strip_prefix(&SPKI_PREFIX)
            .and_then(|key| key.try_into().ok())
            .map(Self::of_bytes)
            .ok_or(CheckpointError::Der)
    }

    /// Returns the key id that stands before `name`'s signatures.
    pub fn id(&self, name: &str) -> [u8; 4] {
        let mut hasher = Hasher::default();
        hasher.update(name.as_bytes());
        hasher.update(&[b'\n', ED25519]);
        hasher.update(&self.0.0);
        let Digest([a, b, c, d, ..]) = hasher.finish();
        [a, b, c, d]
    }

    /// Returns the key as the verifiers of signed notes take it: `name+id+key`.
    pub fn vkey(&self, name: &str) -> String {
        let id = u32::from_be_bytes(self.id(name));
        let key = STANDARD.encode([&[ED25519][..], &self.0.0].concat());
        format!("{name}+{id:08x}+{key}")
    }

    /// Says whether `signature` is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0.0).is_ok_and(|key| {
            key.verify_strict(message, &Signature::from_bytes(signature))
                .is_ok()
        })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for PublicKey {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        text.parse().map(Self).map_err(|_| CheckpointError::Key)
    }
}

/// An Ed25519 private key. It is wiped when dropped and never shown.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// Makes a key of 32 secret (random) bytes.
    pub fn of_bytes(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Returns the secret bytes, for whoever keeps them.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    pub fn public(&self) -> PublicKey {
        PublicKey::of_bytes(self.0.verifying_key().to_bytes())
    }

    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.public())
    }
}

/// Returns what the key before signs when `public` takes over for `origin`.
pub fn rotation_message(origin: &Origin, previous: &PublicKey, public: &PublicKey) -> Vec<u8> {
    format!("govfs/key/v1\n{origin}\n{previous}\n{public}\n").into_bytes()
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub origin: Origin,
    pub size: u64,
    pub root: Digest,
}

impl Checkpoint {
    pub fn stated(&self) -> Stated {
        Stated {
            size: self.size,
            root: self.root,
        }
    }

    /// Returns the signed text.
    pub fn text(&self) -> String {
        let root = STANDARD.encode(self.root.0);
        format!("{}\n{}\n{root}\n", self.origin, self.size)
    }

    /// Returns the signed note, with the origin's own signature alone.
    pub fn sign(&self, key: &SecretKey) -> String {
        let text = self.text();
        let line = signature_line(self.origin.as_str(), key, &text);
        format!("{text}\n{line}")
    }

    /// Returns the value of a merge commit's trailer: the text's lines with spaces between.
    pub fn trailer(&self) -> String {
        self.text().trim_end().replace('\n', " ")
    }

    /// Reads what [`Checkpoint::trailer`] wrote.
    pub fn from_trailer(value: &str) -> Result<Self, CheckpointError> {
        if value.contains('\n') {
            return Err(malformed("a trailer of several lines"));
        }
        Self::of_text(&format!("{}\n", value.replace(' ', "\n")))
    }

    fn of_text(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root), Some(""), None) = (
            lines.next(),
            lines.next(),
            lines.next(),
            lines.next(),
            lines.next(),
        ) else {
            return Err(malformed("its text is not origin, size and root"));
        };
        let root = strict_base64(root)
            .and_then(|root| root.try_into().ok())
            .ok_or(malformed("its root is not 32 bytes in base64"))?;
        Ok(Self {
            origin: origin.parse()?,
            size: decimal(size).ok_or(malformed("its size is not a number"))?,
            root: Digest(root),
        })
    }
}

/// Returns one more signature line over a checkpoint's text.
pub fn signature_line(name: &str, key: &SecretKey, text: &str) -> String {
    let signature = key.sign(text.as_bytes());
    let blob = STANDARD.encode([&key.public().id(name)[..], &signature].concat());
    format!("{DASH}{name} {blob}\n")
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    pub name: String,
    pub key_id: [u8; 4],
    pub signature: Vec<u8>,
}

/// A checkpoint as somebody presents it: well formed, but not yet believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    claimed: Checkpoint,
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// Reads a signed note.
    pub fn parse(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let note = std::str::from_utf8(bytes).map_err(|_| malformed("not UTF-8"))?;
        if note.chars().any(|c| c.is_control() && c != '\n') {
            return Err(malformed("a control character"));
        }
        let split = note.rfind("\n\n").ok_or(malformed("no signature"))?;
        let (text, rest) = (&note[..=split], &note[split + 2..]);
        let lines = rest
            .strip_suffix('\n')
            .ok_or(malformed("its last line does not end"))?;
        let signatures = lines
            .split('\n')
            .map(signature)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            claimed: Checkpoint::of_text(text)?,
            text: text.to_owned(),
            signatures,
        })
    }

    /// Returns what it says, believed or not.
    pub fn claimed(&self) -> &Checkpoint {
        &self.claimed
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Believes it if the first signature is the origin's own, by `key`.
    pub fn verify(&self, key: &PublicKey) -> Result<&Checkpoint, CheckpointError> {
        let origin = &self.claimed.origin;
        let first = self.signatures.first().ok_or(malformed("no signature"))?;
        if first.name != origin.as_str() {
            return Err(CheckpointError::Name {
                origin: origin.clone(),
                found: first.name.clone(),
            });
        }
        if first.key_id != key.id(&first.name) {
            return Err(CheckpointError::OtherKey);
        }
        let signature: &[u8; 64] = first.signature[..]
            .try_into()
            .map_err(|_| CheckpointError::Signature)?;
        if key.verifies(self.text.as_bytes(), signature) {
            Ok(&self.claimed)
        } else {
            Err(CheckpointError::Signature)
        }
    }
}

fn signature(line: &str) -> Result<NoteSignature, CheckpointError> {
    let bad = malformed("a signature line is not `— name base64`");
    let (name, blob) = line
        .strip_prefix(DASH)
        .and_then(|rest| rest.split_once(' '))
        .ok_or(bad.clone())?;
    let blob = strict_base64(blob).ok_or(bad.clone())?;
    let fits = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+');
    match blob.split_first_chunk::<4>() {
        Some((key_id, signature)) if fits && !signature.is_empty() => Ok(NoteSignature {
            name: name.to_owned(),
            key_id: *key_id,
            signature: signature.to_vec(),
        }),
        _ => Err(bad),
    }
}

/// Reads canonical padded base64.
fn strict_base64(text: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(text).ok()?;
    (STANDARD.encode(&bytes) == text).then_some(bytes)
}

/// Reads a number without sign or leading zeros.
fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests;

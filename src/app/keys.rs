//! The operator's keys and copies of checkpoints, found through the environment.
//!
//! Owns: where they are, which key signs for a ledger, and the rotation. Never shows
//! a private key.

use std::env;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::app::failure::Failure;
use crate::app::site::Site;
use crate::domain::checkpoint::{Origin, PublicKey, SecretKey, rotation_message};
use crate::domain::command::Need;
use crate::domain::event::{Draft, Event, KeySet};
use crate::domain::state::{KeyRow, Kind, State};
use crate::store::keys::{self, KeyError, Keys};

/// Where keys are kept.
pub fn config_dir() -> Result<PathBuf, Failure> {
    Ok(keys::config_dir(|name| env::var_os(name))?)
}

/// Where copies of checkpoints are kept.
pub fn state_dir() -> Result<PathBuf, Failure> {
    Ok(keys::state_dir(|name| env::var_os(name))?)
}

/// Returns this user's public key for a ledger, made now if there is none, and whether it was.
pub fn own_or_new(
    keys: &Keys,
    origin: &Origin,
    state: &State,
) -> Result<(PublicKey, bool), Failure> {
    let Some(pair) = keys.load(origin)? else {
        return Ok((keys.create(origin)?.public(), true));
    };
    // A rotation that was recorded, but whose key was not yet put in force.
    let next = pair.next.as_ref().map(SecretKey::public);
    if let Some(next) = next
        && state.keys.contains_key(&next)
    {
        keys.promote(origin)?;
        return Ok((next, false));
    }
    let own = pair.current.public();
    if !state.keys.contains_key(&own) || is_in_force(state, &own) {
        return Ok((own, false));
    }
    // It was handed over somewhere else; whoever still has it goes on with another.
    match keys.stage(origin)?.next {
        Some(next) => {
            keys.promote(origin)?;
            Ok((next.public(), true))
        }
        None => Err(Failure::failed("the next key was not kept")),
    }
}

/// Returns the key that signs for this ledger.
pub fn signing(state: &State) -> Result<(Origin, SecretKey), Failure> {
    let Some(origin) = &state.meta.origin else {
        return Err(Failure::missing("this ledger was not finished").hint("govfs init"));
    };
    let pair = Keys::new(config_dir()?).load(origin)?;
    // The next one counts as soon as its entry is there, the one before no longer.
    let own = pair.map(|pair| [pair.next, Some(pair.current)]);
    let mut own = own.into_iter().flatten().flatten();
    match own.find(|key| is_in_force(state, &key.public())) {
        Some(key) => Ok((origin.clone(), key)),
        None => Err(no_key()),
    }
}

fn no_key() -> Failure {
    Failure::missing("no key here: govfs init").hint("govfs init makes a key of your own")
}

/// Says whether the ledger knows the key, and it was not handed over to another.
fn is_in_force(state: &State, key: &PublicKey) -> bool {
    let handed_over = |row: &KeyRow| row.previous.as_ref() == Some(key) && row.signature.is_some();
    state.keys.contains_key(key) && !state.keys.values().any(handed_over)
}

/// Returns the ledger's name and this user's public key.
pub fn own_public(site: &mut Site) -> Result<(Origin, PublicKey), Failure> {
    let state = site.ledger.state(&[Need::All(Kind::Key)])?;
    let (origin, key) = signing(&state)?;
    Ok((origin, key.public()))
}

/// Reads an Ed25519 signature as entries carry it.
pub fn signature_bytes(text: &str) -> Option<[u8; 64]> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// Returns the text that [`signature_bytes`] reads.
pub fn signature_text(bytes: &[u8; 64]) -> String {
    STANDARD.encode(bytes)
}

/// Reads a public key file: SPKI in DER, or 64 hex digits.
pub fn public_key(bytes: &[u8]) -> Result<PublicKey, Failure> {
    if let Ok(key) = PublicKey::from_der(bytes) {
        return Ok(key);
    }
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| {
            Failure::usage("not an Ed25519 public key: expected SPKI in DER, as in key.pub")
        })
}

/// Puts a new key in force, signed by the old one. The old private key is gone afterwards.
pub fn rotate(site: &mut Site) -> Result<PublicKey, Failure> {
    let state = site.ledger.state(&[Need::All(Kind::Key)])?;
    let (origin, old) = signing(&state)?;
    let keys = Keys::new(config_dir()?);
    let staged = keys.stage(&origin)?;
    let Some(next) = staged.next else {
        return Err(Failure::failed("the next key was not kept"));
    };
    let (previous, public) = (old.public(), next.public());
    let signature = old.sign(&rotation_message(&origin, &previous, &public));
    let set = KeySet {
        origin: origin.clone(),
        public,
        previous: Some(previous),
        signature: Some(signature_text(&signature)),
        place: None,
        tip: None,
    };
    site.act(|turn| {
        turn.append(&Draft::new(Event::Key(set.clone())))?;
        Ok(())
    })?;
    keys.promote(&origin)?;
    Ok(public)
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        match &error {
            KeyError::Missing(_) => no_key(),
            KeyError::Open { path, .. } => {
                let path = path.display();
                Self::failed(&error).hint(format!("chmod 600 {path}; then govfs key rotate"))
            }
            KeyError::NoHome { .. } => Self::failed(&error).hint("export HOME=/home/NAME"),
            _ => Self::failed(error),
        }
    }
}

//! The operator's keys and copies of checkpoints, found through the environment.

use std::env;
use std::path::PathBuf;

use crate::app::failure::Failure;
use crate::domain::checkpoint::{Origin, PublicKey, SecretKey};
use crate::domain::state::State;
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
    Ok((pair.current.public(), false))
}

/// Returns the key that signs for this ledger.
pub fn signing(state: &State) -> Result<(Origin, SecretKey), Failure> {
    let Some(origin) = &state.meta.origin else {
        return Err(Failure::missing("this ledger was not finished").hint("govfs init"));
    };
    let pair = Keys::new(config_dir()?).load(origin)?;
    let known = pair
        .map(|pair| pair.current)
        .filter(|key| state.keys.contains_key(&key.public()));
    match known {
        Some(key) => Ok((origin.clone(), key)),
        None => Err(Failure::missing("no key here: govfs init")),
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        match &error {
            KeyError::Missing(_) => Self::missing("no key here: govfs init"),
            _ => Self::failed(error),
        }
    }
}

//! Stand-in until the charter lands.
use crate::domain::names::RoleName;
use crate::domain::pattern::Pattern;
use std::collections::BTreeMap;
#[derive(Clone, Debug)]
pub struct Role {
    pub paths: Vec<Pattern>,
    pub engine: Option<String>,
}
#[derive(Clone, Debug)]
pub struct Charter {
    pub default_role: RoleName,
    pub roles: BTreeMap<RoleName, Role>,
    pub protected: Vec<Pattern>,
    pub target: String,
}
#[derive(Clone, Debug)]
pub struct CharterError {
    pub line: usize,
    pub key: String,
    pub message: String,
}
impl Charter {
    pub fn parse(_text: &str) -> Result<Self, Vec<CharterError>> {
        let worker: RoleName = "worker".parse().map_err(|_| Vec::new())?;
        Ok(Self {
            default_role: worker.clone(),
            roles: BTreeMap::from([(
                worker,
                Role {
                    paths: Vec::new(),
                    engine: None,
                },
            )]),
            protected: vec![Pattern::parse(b"governor.md").map_err(|_| Vec::new())?],
            target: "main".to_owned(),
        })
    }
    pub fn claim_ttl_ms(&self) -> u64 {
        8 * 3_600_000
    }
}

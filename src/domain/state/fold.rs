//! `apply`: what each entry does to the rows.
//!
//! Owns: the meaning of every operation for the state. Replaying and running share it,
//! so it is total: an entry that the chain has accepted is folded, and is never
//! refused. Never decides anything.

use super::{
    AgentRow, CharterRow, CheckpointRow, ClaimRow, EndedBy, EndedRow, FleetRow, GcRow, IntentRow,
    KeyRow, Kind, MergeRow, MountRow, RequestRow, RequestState, ReviewRow, RowKey, SealRow,
    SessionRow, SessionState, State,
};
use crate::domain::event::{
    CharterSet, Claimed, Collected, Cut, Decision, Entry, Event, Freed, Launched, Merged,
    SessionOpened, Tier,
};

mod plans;

impl State {
    /// Folds one entry in and returns the keys of the rows that it touched.
    pub fn apply(&mut self, entry: &Entry) -> Vec<RowKey> {
        let mut touched = Vec::new();
        match &entry.event {
            Event::Charter(body) => self.apply_charter(entry, body, &mut touched),
            Event::Key(_) | Event::Fork(_) | Event::Checkpoint(_) | Event::Fleet(_) => {
                self.apply_meta(entry, &mut touched);
            }
            Event::Agent(_) => self.apply_agent(entry, &mut touched),
            Event::Claim(body) => self.apply_claim(entry, body, &mut touched),
            Event::Release(body) => {
                self.end_claims(
                    entry,
                    &body.claims,
                    EndedBy::Release,
                    body.cut.as_ref(),
                    &mut touched,
                );
            }
            Event::Expire(body) => {
                self.end_claims(
                    entry,
                    &body.claims,
                    EndedBy::Expiry,
                    body.cut.as_ref(),
                    &mut touched,
                );
            }
            Event::Session(body) => self.apply_session(entry, body, &mut touched),
            Event::Launch(_)
            | Event::Mount(_)
            | Event::Unmount(_)
            | Event::Seal(_)
            | Event::Sync(_) => self.apply_life(entry, &mut touched),
            Event::Request(_) | Event::Grant(_) | Event::Deny(_) => {
                self.apply_request(entry, &mut touched);
            }
            Event::Plan(body) => self.apply_plan(entry, body, &mut touched),
            Event::Queue(body) => self.apply_queue(entry, body, &mut touched),
            Event::Review(_) => self.apply_review(entry, &mut touched),
            Event::MergeIntent(_) => self.apply_intent(entry, &mut touched),
            Event::Merge(body) => self.apply_merge(entry, body, &mut touched),
            Event::Abandon(body) => {
                self.end_claims(entry, &body.claims, EndedBy::Abandon, None, &mut touched);
                self.close_session(entry, SessionState::Abandoned, &mut touched);
            }
            Event::Revert(body) => self.apply_revert(entry, body, &mut touched),
            Event::Gc(body) => self.apply_collection(entry, body, &mut touched),
            Event::Protect(body) => self.apply_protect(entry, body, &mut touched),
        }
        touched
    }

    fn apply_charter(&mut self, entry: &Entry, body: &CharterSet, touched: &mut Vec<RowKey>) {
        self.meta.charter = Some(body.sha256);
        let row = CharterRow {
            entry: entry.seq,
            since: entry.ts,
            source: body.source.clone(),
            text: body.text.clone(),
        };
        self.charters.insert(body.sha256, row);
        self.settle_law();
        touched.push(RowKey::meta());
        touched.push(RowKey::new(Kind::Charter, &body.sha256));
    }

    fn apply_collection(&mut self, entry: &Entry, body: &Collected, touched: &mut Vec<RowKey>) {
        let row = GcRow {
            since: entry.ts,
            versions: body.versions.len() as u64,
            bytes: body.bytes,
            logs: body.logs.clone(),
            before: body.before,
        };
        self.collections.insert(entry.seq, row);
        touched.push(RowKey::new(Kind::Gc, &entry.seq));
    }

    fn apply_meta(&mut self, entry: &Entry, touched: &mut Vec<RowKey>) {
        match &entry.event {
            Event::Key(body) => {
                self.meta.origin = Some(body.origin.clone());
                self.meta.key = Some(body.public);
                if body.place.is_some() {
                    self.meta.place.clone_from(&body.place);
                    self.meta.tip = body.tip;
                }
                let row = KeyRow {
                    entry: entry.seq,
                    since: entry.ts,
                    origin: body.origin.clone(),
                    previous: body.previous,
                    signature: body.signature.clone(),
                };
                self.keys.insert(body.public, row);
                touched.push(RowKey::new(Kind::Key, &body.public));
            }
            Event::Fork(body) => {
                self.meta.origin = Some(body.origin.clone());
                self.meta.place = Some(body.place.clone());
                self.meta.key = Some(body.public);
                let row = KeyRow {
                    entry: entry.seq,
                    since: entry.ts,
                    origin: body.origin.clone(),
                    previous: None,
                    signature: None,
                };
                self.keys.insert(body.public, row);
                touched.push(RowKey::new(Kind::Key, &body.public));
            }
            Event::Checkpoint(body) => {
                self.meta.checkpoint = Some(CheckpointRow {
                    entry: entry.seq,
                    size: body.size,
                    root: body.root,
                });
            }
            Event::Fleet(body) => {
                self.meta.fleet = Some(FleetRow {
                    entry: entry.seq,
                    since: entry.ts,
                    action: body.action,
                    plan: body.plan.clone(),
                    jobs: body.jobs,
                    attempt: body.attempt,
                    pid: body.pid,
                    reason: body.reason.clone(),
                });
                self.apply_job(entry, body, touched);
            }
            _ => return,
        }
        touched.push(RowKey::meta());
    }

    fn apply_agent(&mut self, entry: &Entry, touched: &mut Vec<RowKey>) {
        let (Event::Agent(body), Some(name)) = (&entry.event, &entry.agent) else {
            return;
        };
        let before = self.agents.get(name);
        let row = AgentRow {
            role: body.role.clone(),
            engine: body.engine.clone(),
            person: body.person,
            since: before.map_or(entry.ts, |row| row.since),
            sessions: before.map_or(0, |row| row.sessions),
            session: before.and_then(|row| row.session.clone()),
        };
        self.agents.insert(name.clone(), row);
        touched.push(RowKey::new(Kind::Agent, name));
    }

    fn apply_claim(&mut self, entry: &Entry, body: &Claimed, touched: &mut Vec<RowKey>) {
        let Some(agent) = &entry.agent else { return };
        if body.decision == Decision::Deny {
            return;
        }
        for granted in &body.claims {
            let before = self.claims.get(&granted.id);
            let row = ClaimRow {
                id: granted.id,
                agent: agent.clone(),
                pattern: granted.pattern.clone(),
                mode: granted.mode,
                generation: granted.generation,
                entry: before.map_or(entry.seq, |row| row.entry),
                since: before.map_or(entry.ts, |row| row.since),
                lease: body.lease.clone(),
                plan: body
                    .plan
                    .clone()
                    .or_else(|| before.and_then(|row| row.plan.clone())),
                leave: body.leave.or_else(|| before.and_then(|row| row.leave)),
            };
            self.meta.claim = self.meta.claim.max(granted.id);
            self.meta.generation = self.meta.generation.max(granted.generation);
            self.claims.insert(granted.id, row);
            touched.push(RowKey::new(Kind::Claim, &granted.id));
        }
        touched.push(RowKey::meta());
    }

    fn end_claims(
        &mut self,
        entry: &Entry,
        freed: &[Freed],
        how: EndedBy,
        cut: Option<&Cut>,
        touched: &mut Vec<RowKey>,
    ) {
        for Freed { id, .. } in freed {
            let Some(claim) = self.claims.remove(id) else {
                continue;
            };
            let row = EndedRow {
                agent: claim.agent,
                pattern: claim.pattern,
                mode: claim.mode,
                generation: claim.generation,
                entry: claim.entry,
                end: entry.seq,
                until: entry.ts,
                how,
                cut: cut.cloned(),
            };
            self.ended.insert(*id, row);
            touched.push(RowKey::new(Kind::Claim, id));
            touched.push(RowKey::new(Kind::Ended, id));
        }
    }

    fn apply_session(&mut self, entry: &Entry, body: &SessionOpened, touched: &mut Vec<RowKey>) {
        let (Some(agent), Some(id)) = (&entry.agent, &entry.session) else {
            return;
        };
        let row = SessionRow {
            agent: agent.clone(),
            entry: entry.seq,
            leaf: entry.leaf,
            since: entry.ts,
            state: SessionState::Open,
            base: body.base,
            branch: body.branch.clone(),
            charter: body.charter,
            config: body.config.clone(),
            root: body.root.clone(),
            plan: body.plan.clone(),
            tier: None,
            launches: 0,
            widenings: Vec::new(),
            sealed: None,
            mount: None,
            end: None,
            until: None,
        };
        self.sessions.insert(id.clone(), row);
        touched.push(RowKey::new(Kind::Session, id));
        if let Some(row) = self.agents.get_mut(agent) {
            row.sessions += 1;
            row.session = Some(id.clone());
            touched.push(RowKey::new(Kind::Agent, agent));
        }
    }

    /// What happens to an open session.
    fn apply_life(&mut self, entry: &Entry, touched: &mut Vec<RowKey>) {
        let Some(id) = &entry.session else { return };
        let Some(row) = self.sessions.get_mut(id) else {
            return;
        };
        match &entry.event {
            Event::Launch(body) => launched(row, body),
            Event::Mount(body) => {
                row.mount = Some(MountRow {
                    entry: entry.seq,
                    dir: body.dir.clone(),
                    uid: body.uid,
                    pid: body.pid,
                });
                if let Some(tier) = body.tier {
                    lower(row, tier);
                }
            }
            Event::Unmount(_) => row.mount = None,
            Event::Seal(body) => {
                row.sealed = Some(SealRow {
                    entry: entry.seq,
                    count: body.count,
                    head: body.head,
                    root: body.root,
                });
            }
            Event::Sync(body) if body.decision == Decision::Allow => row.base = body.base,
            _ => return,
        }
        touched.push(RowKey::new(Kind::Session, id));
    }

    fn apply_request(&mut self, entry: &Entry, touched: &mut Vec<RowKey>) {
        let (number, state, answer) = match &entry.event {
            Event::Request(body) => {
                let Some(agent) = &entry.agent else { return };
                let row = RequestRow {
                    agent: agent.clone(),
                    session: entry.session.clone(),
                    since: entry.ts,
                    mode: body.mode,
                    patterns: body.patterns.clone(),
                    ttl_ms: body.ttl_ms,
                    reason: body.reason.clone(),
                    state: RequestState::Waiting,
                    answer: None,
                };
                self.requests.insert(entry.seq, row);
                touched.push(RowKey::new(Kind::Request, &entry.seq));
                return;
            }
            Event::Grant(body) => (body.request, RequestState::Granted, &body.reason),
            Event::Deny(body) => (body.request, RequestState::Denied, &body.reason),
            _ => return,
        };
        if let Some(row) = self.requests.get_mut(&number) {
            row.state = state;
            row.answer = Some(answer.clone());
            touched.push(RowKey::new(Kind::Request, &number));
        }
    }

    fn apply_review(&mut self, entry: &Entry, touched: &mut Vec<RowKey>) {
        let (Event::Review(body), Some(agent), Some(session)) =
            (&entry.event, &entry.agent, &entry.session)
        else {
            return;
        };
        if body.decision == Decision::Deny {
            return;
        }
        let row = ReviewRow {
            agent: agent.clone(),
            session: session.clone(),
            since: entry.ts,
            action: body.action,
            reviewer: body.reviewer.clone(),
            tree: body.tree,
            base: body.base,
            message: body.message.clone(),
        };
        self.reviews.insert(entry.seq, row);
        touched.push(RowKey::new(Kind::Review, &entry.seq));
    }

    fn apply_intent(&mut self, entry: &Entry, touched: &mut Vec<RowKey>) {
        let (Event::MergeIntent(body), Some(agent), Some(session)) =
            (&entry.event, &entry.agent, &entry.session)
        else {
            return;
        };
        let row = IntentRow {
            entry: entry.seq,
            agent: agent.clone(),
            branch: body.branch.clone(),
            commit: body.commit,
            onto: body.onto,
            tree: body.tree,
            count: body.count,
        };
        self.intents.insert(session.clone(), row);
        touched.push(RowKey::new(Kind::Intent, session));
    }

    fn apply_merge(&mut self, entry: &Entry, body: &Merged, touched: &mut Vec<RowKey>) {
        let (Some(agent), Some(session)) = (&entry.agent, &entry.session) else {
            return;
        };
        if self.intents.remove(session).is_some() {
            touched.push(RowKey::new(Kind::Intent, session));
        }
        if body.decision == Decision::Deny {
            return;
        }
        self.end_claims(entry, &body.claims, EndedBy::Merge, None, touched);
        self.close_session(entry, SessionState::Merged, touched);
        let Some(commit) = body.commit else { return };
        if let Some(plan) = &body.plan {
            self.finish_plan(entry.seq, plan, agent, commit, touched);
        }
        let passed = body.checks.iter().filter(|check| check.passed);
        let row = MergeRow {
            agent: agent.clone(),
            session: session.clone(),
            since: entry.ts,
            branch: body.branch.clone(),
            commit,
            onto: body.onto,
            tree: body.tree,
            tier: body.tier,
            plan: body.plan.clone(),
            reverted: None,
            undone: None,
            checks: passed.map(|check| check.name.clone()).collect(),
        };
        self.merges.insert(entry.seq, row);
        touched.push(RowKey::new(Kind::Merge, &entry.seq));
    }

    fn close_session(&mut self, entry: &Entry, state: SessionState, touched: &mut Vec<RowKey>) {
        let (Some(agent), Some(session)) = (&entry.agent, &entry.session) else {
            return;
        };
        if let Some(row) = self.sessions.get_mut(session) {
            row.state = state;
            row.end = Some(entry.seq);
            row.until = Some(entry.ts);
            touched.push(RowKey::new(Kind::Session, session));
        }
        if let Some(row) = self.agents.get_mut(agent) {
            row.session = None;
            touched.push(RowKey::new(Kind::Agent, agent));
        }
    }
}

/// A session's tier is the lowest that it ever had.
fn lower(row: &mut SessionRow, tier: Tier) {
    row.tier = Some(row.tier.map_or(tier, |lowest| lowest.min(tier)));
}

fn launched(row: &mut SessionRow, body: &Launched) {
    row.launches += 1;
    lower(row, body.tier);
    for widening in &body.widenings {
        if !row.widenings.contains(widening) {
            row.widenings.push(widening.clone());
        }
    }
}

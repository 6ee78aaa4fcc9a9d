//! What entries do to plans, the fleet's jobs and protected branches.
//!
//! Owns: these rows alone, by the same rules as the fold that calls it.

use super::super::{JobRow, Kind, MoveRow, PlanRow, ProtectRow, RowKey, State};
use crate::domain::base::Oid;
use crate::domain::event::{
    Decision, Entry, FleetAction, FleetMoved, PlanAction, PlanSet, Protected, QueueMoved,
    QueueState, Reverted,
};
use crate::domain::names::{AgentName, PlanId};

impl State {
    pub(super) fn apply_plan(&mut self, entry: &Entry, body: &PlanSet, touched: &mut Vec<RowKey>) {
        touched.push(RowKey::new(Kind::Plan, &body.plan));
        self.drop_job(&body.plan, touched);
        if body.action == PlanAction::Remove {
            self.plans.remove(&body.plan);
            return;
        }
        let state = match body.done {
            Some(_) => QueueState::Done,
            None => QueueState::Todo,
        };
        let row = PlanRow {
            entry: entry.seq,
            since: entry.ts,
            sha256: body.sha256,
            file: body.file.clone(),
            text: body.text.clone().unwrap_or_default(),
            state,
            owner: None,
            commit: body.done,
            reason: None,
            session: None,
            merge: None,
            base: body.base,
            facts: body.facts.clone(),
        };
        self.plans.insert(body.plan.clone(), row);
    }

    pub(super) fn apply_queue(
        &mut self,
        entry: &Entry,
        body: &QueueMoved,
        touched: &mut Vec<RowKey>,
    ) {
        if body.decision == Decision::Deny {
            return;
        }
        let Some(row) = self.plans.get_mut(&body.plan) else {
            return;
        };
        row.state = body.state;
        row.owner.clone_from(&body.owner);
        row.reason.clone_from(&body.reason);
        row.commit = body.commit;
        if body.state != QueueState::Done {
            row.merge = None;
        }
        if entry.session.is_some() {
            row.session.clone_from(&entry.session);
        }
        touched.push(RowKey::new(Kind::Plan, &body.plan));
        self.move_job(entry, body, touched);
    }

    /// A plan that goes to work starts the fleet's count anew; only what the fleet took is its own.
    fn move_job(&mut self, entry: &Entry, body: &QueueMoved, touched: &mut Vec<RowKey>) {
        let resumed = entry.agent.is_none() && self.jobs.contains_key(&body.plan);
        match body.state {
            QueueState::InProgress if body.fleet || resumed => {
                self.jobs.insert(body.plan.clone(), started(entry));
                touched.push(RowKey::new(Kind::Job, &body.plan));
            }
            QueueState::InProgress | QueueState::Todo => self.drop_job(&body.plan, touched),
            QueueState::Blocked | QueueState::Done => {}
        }
    }

    fn drop_job(&mut self, plan: &PlanId, touched: &mut Vec<RowKey>) {
        if self.jobs.remove(plan).is_some() {
            touched.push(RowKey::new(Kind::Job, plan));
        }
    }

    /// What the fleet did with one plan.
    pub(super) fn apply_job(
        &mut self,
        entry: &Entry,
        body: &FleetMoved,
        touched: &mut Vec<RowKey>,
    ) {
        let Some(plan) = &body.plan else { return };
        let Some(row) = self.jobs.get_mut(plan) else {
            return;
        };
        row.entry = entry.seq;
        row.since = entry.ts;
        row.action = body.action;
        row.reason.clone_from(&body.reason);
        row.missing.clone_from(&body.missing);
        match body.action {
            FleetAction::Launch => {
                row.attempts = body.attempt.unwrap_or(row.attempts + 1);
                row.pid = body.pid;
                row.status = None;
            }
            FleetAction::Finish => row.status = body.status,
            FleetAction::Stop => row.attempts = row.attempts.saturating_sub(1),
            FleetAction::Start | FleetAction::Check | FleetAction::Retry | FleetAction::Block => {}
        }
        touched.push(RowKey::new(Kind::Job, plan));
    }

    pub(super) fn finish_plan(
        &mut self,
        merge: u64,
        plan: &PlanId,
        agent: &AgentName,
        commit: Oid,
        touched: &mut Vec<RowKey>,
    ) {
        if let Some(row) = self.plans.get_mut(plan) {
            row.state = QueueState::Done;
            row.owner.get_or_insert_with(|| agent.clone());
            row.commit = Some(commit);
            row.merge = Some(merge);
            row.reason = None;
            touched.push(RowKey::new(Kind::Plan, plan));
        }
    }

    /// A plan whose merge is undone is to do again.
    pub(super) fn apply_revert(
        &mut self,
        entry: &Entry,
        body: &Reverted,
        touched: &mut Vec<RowKey>,
    ) {
        if let Some(session) = &entry.session
            && self.intents.remove(session).is_some()
        {
            touched.push(RowKey::new(Kind::Intent, session));
        }
        let Some(row) = self.merges.get_mut(&body.merge) else {
            return;
        };
        row.reverted = Some(entry.seq);
        row.undone = Some(body.commit);
        touched.push(RowKey::new(Kind::Merge, &body.merge));
        let Some(id) = &body.plan else { return };
        let Some(plan) = self.plans.get_mut(id) else {
            return;
        };
        if plan.merge == Some(body.merge) {
            plan.state = QueueState::Todo;
            plan.owner = None;
            plan.commit = None;
            plan.merge = None;
            plan.reason = Some(format!("entry {} reverted its merge", entry.seq));
            touched.push(RowKey::new(Kind::Plan, id));
            self.drop_job(id, touched);
        }
    }

    pub(super) fn apply_protect(
        &mut self,
        entry: &Entry,
        body: &Protected,
        touched: &mut Vec<RowKey>,
    ) {
        let row = self.protects.entry(body.branch.clone());
        let row = row.or_insert_with(|| ProtectRow {
            entry: entry.seq,
            since: entry.ts,
            on: body.on,
            moves: Vec::new(),
        });
        if let Some(person) = &body.person {
            row.moves.push(MoveRow {
                entry: entry.seq,
                person: person.clone(),
                from: body.from,
                to: body.commit,
            });
        } else {
            row.entry = entry.seq;
            row.since = entry.ts;
            row.on = body.on;
        }
        touched.push(RowKey::new(Kind::Protect, &body.branch));
    }
}

fn started(entry: &Entry) -> JobRow {
    JobRow {
        entry: entry.seq,
        since: entry.ts,
        action: FleetAction::Start,
        attempts: 0,
        pid: None,
        status: None,
        reason: None,
        missing: Vec::new(),
    }
}

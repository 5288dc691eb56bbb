//! The state machine of one group: pure decisions, with the time passed in.
//!
//! ```text
//!            first join                 everybody has come,           the leader's
//!            a member leaves,           or the deadline passed        assignment comes
//!  Empty ──► joins or falls silent ──► Rebalancing ──► Assigning ─────────────► Stable
//!    ▲                                      ▲              │                      │
//!    └────────── nobody is left ────────────┴──────────────┴──────────────────────┘
//! ```
//! The generation moves when a rebalance ends, never when it begins: members commit their offsets under the old
//! generation while they give up their partitions, and that must be accepted.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::{Effect, Fellow, Join, Joined};

/// How long a rebalance to which nobody came waits at least before the next look.
const PATIENCE_MIN: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Empty,
    Rebalancing { deadline: Instant },
    Assigning { deadline: Instant },
    Stable,
}

#[derive(Debug)]
pub(super) struct Member {
    pub join: Join,
    pub assignment: Bytes,
    pub silent_from: Instant,
    pub joining: bool,
    pub syncing: bool,
    /// Whether it came to this generation and must ask for its assignment.
    pub owes_sync: bool,
}

impl Member {
    /// When it counts as dead; never while one of its requests waits for an answer of ours.
    fn expiry(&self) -> Option<Instant> {
        (!self.joining && !self.syncing).then(|| self.silent_from + self.join.session)
    }

    pub fn metadata(&self, protocol: &str) -> Bytes {
        let mut protocols = self.join.protocols.iter();
        protocols
            .find(|own| own.name == protocol)
            .map(|own| own.metadata.clone())
            .unwrap_or_default()
    }
}

/// One group.
#[derive(Debug)]
pub struct Group {
    pub(super) phase: Phase,
    generation: i32,
    pub(super) protocol_type: String,
    pub(super) protocol: String,
    pub(super) leader: Option<String>,
    pub(super) members: BTreeMap<String, Member>,
    /// Places of static members, each with the id of whoever holds it.
    pub(super) instances: HashMap<String, String>,
    expected: HashMap<String, Instant>,
    members_max: usize,
}

impl Group {
    /// A group that nobody is in.
    pub fn new(members_max: usize) -> Self {
        Self {
            phase: Phase::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: String::new(),
            leader: None,
            members: BTreeMap::new(),
            instances: HashMap::new(),
            expected: HashMap::new(),
            members_max,
        }
    }

    /// Says whether nobody is in and nobody is about to join.
    pub fn is_vacant(&self) -> bool {
        self.members.is_empty() && self.expected.is_empty()
    }

    /// Gives a newcomer the id that it must join with.
    ///
    /// # Errors
    /// If the group is full.
    pub fn expect(
        &mut self,
        now: Instant,
        member: String,
        session: Duration,
    ) -> Result<(), ResponseError> {
        if self.members_max <= self.members.len().max(self.expected.len()) {
            return Err(ResponseError::GroupMaxSizeReached);
        }
        self.expected.insert(member, now + session);
        Ok(())
    }

    /// Lets a member in, or in again. The answer comes as an effect, at once or later.
    ///
    /// # Errors
    /// If it cannot be let in. `newcomer` says that `member` is an id that was made just now.
    pub fn join(
        &mut self,
        now: Instant,
        member: &str,
        newcomer: bool,
        join: Join,
    ) -> Result<Vec<Effect>, ResponseError> {
        let held = self.holder(member, newcomer, &join)?;
        let known = self.members.contains_key(member);
        if !known && !newcomer && !self.expected.contains_key(member) {
            return Err(ResponseError::UnknownMemberId);
        }
        if !self.accepts(held.as_deref().unwrap_or(member), &join) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        if let Some(holder) = held {
            return Ok(self.take_over(now, &holder, member, join));
        }
        if !known && self.members_max <= self.members.len() {
            return Err(ResponseError::GroupMaxSizeReached);
        }
        self.expected.remove(member);
        let mut effects = Vec::new();
        if let Some(instance) = &join.instance {
            self.instances.insert(instance.clone(), member.to_owned());
        }
        if let Some(old) = self.members.get_mut(member) {
            let same = old.join.protocols == join.protocols;
            let is_leader = self.leader.as_deref() == Some(member);
            old.join = join;
            old.silent_from = now;
            let settled = match self.phase {
                Phase::Stable => same && !is_leader,
                Phase::Assigning { .. } => same,
                Phase::Empty | Phase::Rebalancing { .. } => false,
            };
            if settled {
                return Ok(vec![Effect::Joined(
                    member.to_owned(),
                    Ok(self.joined(member)),
                )]);
            }
            old.joining = true;
        } else {
            self.protocol_type.clone_from(&join.protocol_type);
            let newcomer = Member {
                join,
                assignment: Bytes::new(),
                silent_from: now,
                joining: true,
                syncing: false,
                owes_sync: false,
            };
            self.members.insert(member.to_owned(), newcomer);
        }
        self.rebalance(now, &mut effects);
        self.finish_if_all_came(now, &mut effects);
        Ok(effects)
    }

    /// Says whether the others have a protocol in common with this member.
    fn accepts(&self, member: &str, join: &Join) -> bool {
        let mut others = self
            .members
            .iter()
            .filter(|(id, _)| id.as_str() != member)
            .peekable();
        if others.peek().is_none() {
            return !join.protocols.is_empty();
        }
        let others: Vec<_> = others.map(|(_, other)| other).collect();
        let shared = |name: &str| {
            others
                .iter()
                .all(|other| other.join.protocols.iter().any(|own| own.name == name))
        };
        self.protocol_type == join.protocol_type
            && join.protocols.iter().any(|own| shared(&own.name))
    }

    /// Begins a rebalance, unless one is under way.
    pub(super) fn rebalance(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Rebalancing { .. }) {
            return;
        }
        for (id, member) in &mut self.members {
            if std::mem::take(&mut member.syncing) {
                member.silent_from = now;
                effects.push(Effect::Synced(
                    id.clone(),
                    Err(ResponseError::RebalanceInProgress),
                ));
            }
        }
        self.phase = Phase::Rebalancing {
            deadline: now + self.patience(),
        };
    }

    /// The longest that any member may take to come.
    fn patience(&self) -> Duration {
        let patiences = self.members.values().map(|member| member.join.rebalance);
        patiences.max().unwrap_or_default()
    }

    pub(super) fn finish_if_all_came(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Rebalancing { .. })
            && self.members.values().all(|member| member.joining)
        {
            self.finish_rebalance(now, effects);
        }
    }

    /// Begins the next generation with those who have come, and with static members, which need not come.
    fn finish_rebalance(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.members
            .retain(|_, member| member.joining || member.join.instance.is_some());
        let nobody_came = self.members.values().all(|member| !member.joining);
        if nobody_came && !self.members.is_empty() {
            // Nobody could lead; the sessions of those who are silent will end.
            self.phase = Phase::Rebalancing {
                deadline: now + self.patience().max(PATIENCE_MIN),
            };
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            self.leader = None;
            return;
        }
        self.protocol = self.vote();
        let came = |id: &String| self.members.get(id).is_some_and(|member| member.joining);
        if !self.leader.as_ref().is_some_and(came) {
            self.leader = self.members.keys().find(|id| came(id)).cloned();
        }
        self.phase = Phase::Assigning {
            deadline: now + self.patience(),
        };
        for member in self.members.values_mut() {
            member.owes_sync = std::mem::take(&mut member.joining);
            member.assignment = Bytes::new();
            if member.owes_sync {
                member.silent_from = now;
            }
        }
        for (id, _) in self.members.iter().filter(|(_, member)| member.owes_sync) {
            effects.push(Effect::Joined(id.clone(), Ok(self.joined(id))));
        }
    }

    /// Picks the protocol that all support and most like best.
    pub(super) fn vote(&self) -> String {
        let supported = |name: &str| {
            self.members
                .values()
                .all(|member| member.join.protocols.iter().any(|own| own.name == name))
        };
        let mut votes = BTreeMap::<&str, usize>::new();
        for member in self.members.values() {
            let mut names = member.join.protocols.iter().map(|own| own.name.as_str());
            if let Some(best) = names.find(|name| supported(name)) {
                *votes.entry(best).or_default() += 1;
            }
        }
        votes
            .into_iter()
            .max_by_key(|&(_, count)| count)
            .map(|(name, _)| name.to_owned())
            .unwrap_or_default()
    }

    pub(super) fn joined(&self, member: &str) -> Joined {
        let leader = self.leader.clone().unwrap_or_default();
        let fellow = |(id, other): (&String, &Member)| Fellow {
            id: id.clone(),
            instance: other.join.instance.clone(),
            metadata: other.metadata(&self.protocol),
        };
        let members = match leader == member {
            true => self.members.iter().map(fellow).collect(),
            false => Vec::new(),
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader,
            members,
            skip_assignment: false,
        }
    }

    fn member(&mut self, id: &str, generation: i32) -> Result<&mut Member, ResponseError> {
        let current = self.generation;
        let member = self
            .members
            .get_mut(id)
            .ok_or(ResponseError::UnknownMemberId)?;
        if generation == current {
            Ok(member)
        } else {
            Err(ResponseError::IllegalGeneration)
        }
    }

    /// Takes the assignments from the leader, or a member's wish for its own. The answer comes as an effect.
    ///
    /// # Errors
    /// If the member is not in this generation, or a rebalance is under way.
    pub fn sync(
        &mut self,
        now: Instant,
        id: &str,
        generation: i32,
        mut assignments: HashMap<String, Bytes>,
    ) -> Result<Vec<Effect>, ResponseError> {
        let (phase, is_leader) = (self.phase, self.leader.as_deref() == Some(id));
        let member = self.member(id, generation)?;
        member.silent_from = now;
        match phase {
            Phase::Empty => Err(ResponseError::UnknownMemberId),
            Phase::Rebalancing { .. } => Err(ResponseError::RebalanceInProgress),
            Phase::Stable => Ok(vec![Effect::Synced(
                id.to_owned(),
                Ok(member.assignment.clone()),
            )]),
            Phase::Assigning { .. } => {
                member.syncing = true;
                if !is_leader {
                    return Ok(Vec::new());
                }
                self.phase = Phase::Stable;
                let mut effects = Vec::new();
                for (id, member) in &mut self.members {
                    member.assignment = assignments.remove(id).unwrap_or_default();
                    if std::mem::take(&mut member.syncing) {
                        member.silent_from = now;
                        effects.push(Effect::Synced(id.clone(), Ok(member.assignment.clone())));
                    }
                }
                Ok(effects)
            }
        }
    }

    /// Takes a sign of life.
    ///
    /// # Errors
    /// What the member must know: that it is out, or should join again.
    pub fn heartbeat(
        &mut self,
        now: Instant,
        id: &str,
        generation: i32,
    ) -> Result<(), ResponseError> {
        let phase = self.phase;
        self.member(id, generation)?.silent_from = now;
        match phase {
            Phase::Rebalancing { .. } => Err(ResponseError::RebalanceInProgress),
            Phase::Empty | Phase::Assigning { .. } | Phase::Stable => Ok(()),
        }
    }

    /// Lets a member go.
    ///
    /// # Errors
    /// If it is not in.
    pub fn leave(&mut self, now: Instant, id: &str) -> Result<Vec<Effect>, ResponseError> {
        if self.expected.remove(id).is_some() {
            return Ok(Vec::new());
        }
        let mut effects = Vec::new();
        if !self.remove(id, &mut effects) {
            return Err(ResponseError::UnknownMemberId);
        }
        self.rebalance(now, &mut effects);
        self.finish_if_all_came(now, &mut effects);
        Ok(effects)
    }

    fn remove(&mut self, id: &str, effects: &mut Vec<Effect>) -> bool {
        let Some(member) = self.members.remove(id) else {
            return false;
        };
        if let Some(instance) = &member.join.instance {
            self.instances.remove(instance);
        }
        if member.joining {
            effects.push(Effect::Joined(
                id.to_owned(),
                Err(ResponseError::UnknownMemberId),
            ));
        }
        if member.syncing {
            effects.push(Effect::Synced(
                id.to_owned(),
                Err(ResponseError::UnknownMemberId),
            ));
        }
        true
    }

    /// Says whether offsets may be committed by this member now; counts as a sign of life.
    ///
    /// With no members, anybody may who names neither member nor generation: that is manual assignment.
    ///
    /// # Errors
    /// What the member must know.
    pub fn may_commit(
        &mut self,
        now: Instant,
        id: &str,
        generation: i32,
    ) -> Result<(), ResponseError> {
        if id.is_empty() && generation < 0 {
            let nobody = self.members.is_empty();
            return if nobody {
                Ok(())
            } else {
                Err(ResponseError::UnknownMemberId)
            };
        }
        let phase = self.phase;
        self.member(id, generation)?.silent_from = now;
        match phase {
            Phase::Assigning { .. } => Err(ResponseError::RebalanceInProgress),
            Phase::Empty | Phase::Rebalancing { .. } | Phase::Stable => Ok(()),
        }
    }

    /// Returns when [`Group::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Rebalancing { deadline } | Phase::Assigning { deadline } => Some(deadline),
            Phase::Empty | Phase::Stable => None,
        };
        let sessions = self.members.values().filter_map(Member::expiry);
        sessions
            .chain(self.expected.values().copied())
            .chain(phase)
            .min()
    }

    /// Does what is due: drops who has been silent for too long, and ends a rebalance that has taken too long.
    pub fn tick(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.expected.retain(|_, deadline| now < *deadline);
        let overdue = |member: &Member| member.expiry().is_some_and(|expiry| expiry <= now);
        let mut dead: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| overdue(member))
            .map(|(id, _)| id.clone())
            .collect();
        if let Phase::Assigning { deadline } = self.phase
            && deadline <= now
        {
            // Whoever has not asked for its assignment by now holds all the others up.
            dead.extend(
                self.members
                    .iter()
                    .filter(|(_, member)| member.owes_sync && !member.syncing)
                    .map(|(id, _)| id.clone()),
            );
        }
        for id in &dead {
            self.remove(id, &mut effects);
        }
        if !dead.is_empty() {
            self.rebalance(now, &mut effects);
        }
        if let Phase::Rebalancing { deadline } = self.phase
            && deadline <= now
        {
            self.finish_rebalance(now, &mut effects);
        } else {
            self.finish_if_all_came(now, &mut effects);
        }
        effects
    }
}

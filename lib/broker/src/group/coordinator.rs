//! Holds all groups, answers the requests that wait for others, and wakes when a deadline passes.
//!
//! One task sleeps until the earliest deadline of any group; while no group has members it sleeps for good.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::{Notify, oneshot};
use tracing::debug;
use uuid::Uuid;

use super::state::Group;
use super::{Effect, Join, Joined};
use crate::sync::lock;

/// The session timeouts that a member may ask for.
pub const SESSIONS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(30 * 60);

/// The longest that a rebalance waits for its members, whatever they ask for.
const REBALANCE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How many protocols a member may support, and how much it may say about them.
const PROTOCOLS_MAX: usize = 32;
const METADATA_BYTES_MAX: usize = 64 * 1024;

/// How long an id is that a client may make part of its member ids.
const CLIENT_ID_BYTES_MAX: usize = 256;

/// Whose request it is.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// The member's id.
    pub member: &'a str,
    /// The name of its place, if it is a static member.
    pub instance: Option<&'a str>,
    /// The generation that it believes in.
    pub generation: i32,
}

/// What a member is told about its joining, with the id that it has or should take.
pub type JoinAnswer = Result<(String, Joined), (String, ResponseError)>;

#[derive(Debug)]
struct Entry {
    group: Group,
    joins: HashMap<String, oneshot::Sender<Result<Joined, ResponseError>>>,
    syncs: HashMap<String, oneshot::Sender<Result<Bytes, ResponseError>>>,
}

impl Entry {
    fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            // A receiver that is gone belonged to a connection that is gone: its member will fall silent.
            match effect {
                Effect::Joined(member, answer) => {
                    let _ = self.joins.remove(&member).map(|sender| sender.send(answer));
                }
                Effect::Synced(member, answer) => {
                    let _ = self.syncs.remove(&member).map(|sender| sender.send(answer));
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Groups {
    by_id: HashMap<String, Entry>,
    alarm_at: Option<Instant>,
}

/// All groups.
#[derive(Debug)]
pub struct Coordinator {
    groups: Mutex<Groups>,
    alarm: Notify,
    groups_max: usize,
    members_max: usize,
}

impl Coordinator {
    /// A coordinator without groups.
    pub fn new(groups_max: usize, members_max: usize) -> Self {
        Self {
            groups: Mutex::default(),
            alarm: Notify::new(),
            groups_max,
            members_max,
        }
    }

    /// Lets a member join and waits until its generation begins.
    ///
    /// An empty `member` is a newcomer; if `id_first`, it must come again with the id that it gets, unless it is static.
    pub async fn join(&self, group: &str, member: &str, id_first: bool, join: Join) -> JoinAnswer {
        let refuse = |error| (member.to_owned(), error);
        check(group, &join).map_err(refuse)?;
        let join = Join {
            rebalance: join.rebalance.min(REBALANCE_MAX),
            ..join
        };
        let newcomer = member.is_empty();
        let id = if newcomer {
            new_member_id(join.instance.as_deref().unwrap_or(&join.client.id))
        } else {
            member.to_owned()
        };
        let answer = {
            let now = Instant::now();
            let (sender, answer) = oneshot::channel();
            let mut groups = lock(&self.groups);
            let entry = self.entry(&mut groups, group).map_err(refuse)?;
            if newcomer && id_first && join.instance.is_none() {
                let expected = entry.group.expect(now, id.clone(), join.session);
                self.settle(&mut groups, group, Vec::new());
                expected.map_err(refuse)?;
                return Err((id, ResponseError::MemberIdRequired));
            }
            match entry.group.join(now, &id, newcomer, join) {
                Ok(effects) => {
                    entry.joins.insert(id.clone(), sender);
                    self.settle(&mut groups, group, effects);
                }
                Err(error) => {
                    self.settle(&mut groups, group, Vec::new());
                    return Err((id, error));
                }
            }
            answer
        };
        match answer.await {
            Ok(Ok(joined)) => Ok((id, joined)),
            Ok(Err(error)) => Err((id, error)),
            Err(_) => Err((id, ResponseError::RebalanceInProgress)), // the member has joined anew meanwhile
        }
    }

    /// Takes assignments or a wish for one, and waits until it is there.
    ///
    /// # Errors
    /// What the member must know.
    pub async fn sync(
        &self,
        group: &str,
        who: Who<'_>,
        assignments: HashMap<String, Bytes>,
    ) -> Result<Bytes, ResponseError> {
        if assignments
            .values()
            .any(|assignment| METADATA_BYTES_MAX < assignment.len())
        {
            return Err(ResponseError::InvalidRequest);
        }
        let answer = {
            let (sender, answer) = oneshot::channel();
            let mut groups = lock(&self.groups);
            let entry = groups
                .by_id
                .get_mut(group)
                .ok_or(ResponseError::UnknownMemberId)?;
            entry.group.identify(who.member, who.instance)?;
            let now = Instant::now();
            let effects = entry
                .group
                .sync(now, who.member, who.generation, assignments)?;
            entry.syncs.insert(who.member.to_owned(), sender);
            self.settle(&mut groups, group, effects);
            answer
        };
        answer
            .await
            .unwrap_or(Err(ResponseError::RebalanceInProgress))
    }

    /// Takes a sign of life.
    ///
    /// # Errors
    /// What the member must know.
    pub fn heartbeat(&self, group: &str, who: Who<'_>) -> Result<(), ResponseError> {
        let mut groups = lock(&self.groups);
        let entry = groups
            .by_id
            .get_mut(group)
            .ok_or(ResponseError::UnknownMemberId)?;
        entry.group.identify(who.member, who.instance)?;
        let now = Instant::now();
        entry.group.heartbeat(now, who.member, who.generation)
    }

    /// Lets a member go, or whoever holds a place if only that is named.
    ///
    /// # Errors
    /// If it is not in.
    pub fn leave(
        &self,
        group: &str,
        member: &str,
        instance: Option<&str>,
    ) -> Result<(), ResponseError> {
        let mut groups = lock(&self.groups);
        let entry = groups
            .by_id
            .get_mut(group)
            .ok_or(ResponseError::UnknownMemberId)?;
        let effects = entry.group.leave_place(Instant::now(), member, instance)?;
        self.settle(&mut groups, group, effects);
        Ok(())
    }

    /// Says whether offsets may be committed by this member now.
    ///
    /// # Errors
    /// What the member must know.
    pub fn may_commit(&self, group: &str, who: Who<'_>) -> Result<(), ResponseError> {
        let (member, generation) = (who.member, who.generation);
        match lock(&self.groups).by_id.get_mut(group) {
            Some(entry) => {
                entry.group.identify(member, who.instance)?;
                entry.group.may_commit(Instant::now(), member, generation)
            }
            None if member.is_empty() && generation < 0 => Ok(()),
            None => Err(ResponseError::UnknownMemberId),
        }
    }

    /// Looks at a group that somebody is in or about to join.
    pub(super) fn with_group<T>(&self, group: &str, look: impl FnOnce(&Group) -> T) -> Option<T> {
        let groups = lock(&self.groups);
        groups.by_id.get(group).map(|entry| look(&entry.group))
    }

    /// Returns the ids of all groups that somebody is in or about to join.
    pub fn ids(&self) -> Vec<String> {
        lock(&self.groups).by_id.keys().cloned().collect()
    }

    fn entry<'a>(
        &self,
        groups: &'a mut Groups,
        group: &str,
    ) -> Result<&'a mut Entry, ResponseError> {
        if self.groups_max <= groups.by_id.len() && !groups.by_id.contains_key(group) {
            return Err(ResponseError::GroupMaxSizeReached);
        }
        Ok(groups
            .by_id
            .entry(group.to_owned())
            .or_insert_with(|| Entry {
                group: Group::new(self.members_max),
                joins: HashMap::new(),
                syncs: HashMap::new(),
            }))
    }

    /// Carries out what a group decided, forgets it if nobody is left, and sets the alarm.
    fn settle(&self, groups: &mut Groups, group: &str, effects: Vec<Effect>) {
        let Some(entry) = groups.by_id.get_mut(group) else {
            return;
        };
        entry.apply(effects);
        if entry.group.is_vacant() {
            groups.by_id.remove(group);
            return;
        }
        let next = entry.group.next_deadline();
        if let Some(next) = next
            && groups.alarm_at.is_none_or(|alarm_at| next < alarm_at)
        {
            groups.alarm_at = Some(next);
            self.alarm.notify_one();
        }
    }

    /// Does what is due in any group, whenever it is due; never returns.
    pub async fn run(&self) {
        loop {
            match self.tick(Instant::now()) {
                None => self.alarm.notified().await,
                Some(next) => {
                    // Woken early or late, the next round looks anew.
                    let _ = tokio::time::timeout_at(next.into(), self.alarm.notified()).await;
                }
            }
        }
    }

    fn tick(&self, now: Instant) -> Option<Instant> {
        let mut groups = lock(&self.groups);
        groups.by_id.retain(|id, entry| {
            if entry
                .group
                .next_deadline()
                .is_some_and(|deadline| deadline <= now)
            {
                debug!(group = id, "a deadline passed");
                let effects = entry.group.tick(now);
                entry.apply(effects);
            }
            !entry.group.is_vacant()
        });
        groups.alarm_at = groups
            .by_id
            .values()
            .filter_map(|entry| entry.group.next_deadline())
            .min();
        groups.alarm_at
    }
}

fn new_member_id(client: &str) -> String {
    let cut = client
        .char_indices()
        .nth(CLIENT_ID_BYTES_MAX / 4)
        .map_or(client.len(), |(at, _)| at);
    format!("{}-{}", &client[..cut], Uuid::new_v4())
}

fn check(group: &str, join: &Join) -> Result<(), ResponseError> {
    let metadata: usize = join
        .protocols
        .iter()
        .map(|own| own.name.len() + own.metadata.len())
        .sum();
    if group.is_empty() {
        return Err(ResponseError::InvalidGroupId);
    }
    if !SESSIONS.contains(&join.session) {
        return Err(ResponseError::InvalidSessionTimeout);
    }
    if PROTOCOLS_MAX < join.protocols.len()
        || METADATA_BYTES_MAX < metadata
        || join.protocol_type.is_empty()
    {
        return Err(ResponseError::InconsistentGroupProtocol);
    }
    Ok(())
}

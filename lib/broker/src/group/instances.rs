//! Static members: a place in a group with a name of its own (`group.instance.id`).
//!
//! A process that restarts in time takes its place over from the one before, without a rebalance; whoever held the place
//! is fenced. Nobody else's requests are affected, and a place falls free only when its session ends or an operator
//! frees it.

use std::time::Instant;

use kafka_protocol::ResponseError;

use super::state::{Group, Member, Phase};
use super::{Effect, Join};

impl Group {
    /// Returns whose place a newcomer takes over, if it is a static member whose place is held.
    ///
    /// # Errors
    /// If the place is somebody else's by now, or is none.
    pub(super) fn holder(
        &self,
        member: &str,
        newcomer: bool,
        join: &Join,
    ) -> Result<Option<String>, ResponseError> {
        let Some(instance) = &join.instance else {
            return Ok(None);
        };
        match self.instances.get(instance) {
            Some(holder) if newcomer => Ok(Some(holder.clone())),
            Some(holder) if holder != member => Err(ResponseError::FencedInstanceId),
            None if !newcomer => Err(ResponseError::UnknownMemberId),
            _ => Ok(None),
        }
    }

    /// Gives the place of `holder` to `member`.
    ///
    /// In a stable group that would choose the same protocol, everybody keeps what they have.
    pub(super) fn take_over(
        &mut self,
        now: Instant,
        holder: &str,
        member: &str,
        join: Join,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(old) = self.members.remove(holder) else {
            return effects;
        };
        let fenced = ResponseError::FencedInstanceId;
        if old.joining {
            effects.push(Effect::Joined(holder.to_owned(), Err(fenced)));
        }
        if old.syncing {
            effects.push(Effect::Synced(holder.to_owned(), Err(fenced)));
        }
        let leads = self.leader.as_deref() == Some(holder);
        if leads {
            self.leader = Some(member.to_owned());
        }
        self.instances.extend(
            join.instance
                .clone()
                .map(|place| (place, member.to_owned())),
        );
        let may_skip = join.may_skip;
        let newcomer = Member {
            join,
            assignment: old.assignment,
            silent_from: now,
            joining: false,
            syncing: false,
            owes_sync: old.owes_sync,
        };
        self.members.insert(member.to_owned(), newcomer);
        if self.phase == Phase::Stable && self.vote() == self.protocol {
            let mut joined = self.joined(member);
            if leads && may_skip {
                joined.skip_assignment = true;
            } else if leads {
                // A client that does not know of skipping must not think that it leads, or else it would assign.
                joined.leader = holder.to_owned();
                joined.members.clear();
            }
            effects.push(Effect::Joined(member.to_owned(), Ok(joined)));
            return effects;
        }
        if let Some(newcomer) = self.members.get_mut(member) {
            newcomer.joining = true;
        }
        self.rebalance(now, &mut effects);
        self.finish_if_all_came(now, &mut effects);
        effects
    }

    /// Checks that a member with this place, if it names one, is still the one who holds it.
    ///
    /// # Errors
    /// If the place is somebody else's by now, or is none.
    pub fn identify(&self, member: &str, instance: Option<&str>) -> Result<(), ResponseError> {
        let Some(instance) = instance else {
            return Ok(());
        };
        match self.instances.get(instance) {
            None => Err(ResponseError::UnknownMemberId),
            Some(holder) if holder != member => Err(ResponseError::FencedInstanceId),
            Some(_) => Ok(()),
        }
    }

    /// Lets a member go, or whoever holds a place if only that is named.
    ///
    /// # Errors
    /// If there is no such member or place, or somebody else holds it.
    pub fn leave_place(
        &mut self,
        now: Instant,
        member: &str,
        instance: Option<&str>,
    ) -> Result<Vec<Effect>, ResponseError> {
        match instance.and_then(|place| self.instances.get(place)) {
            Some(holder) if member.is_empty() => {
                let holder = holder.clone();
                self.leave(now, &holder)
            }
            _ => {
                self.identify(member, instance)?;
                self.leave(now, member)
            }
        }
    }
}

//! What operators see of groups, and whether a group may be deleted.

use bytes::{Buf, Bytes};
use kafka_protocol::ResponseError;

use super::Client;
use super::coordinator::Coordinator;
use super::state::{Group, Phase};

/// The protocol type of consumers, whose metadata says what they subscribe to.
const CONSUMER: &str = "consumer";

/// A group as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedGroup {
    /// Kafka's name of its state.
    pub state: &'static str,
    /// `consumer`, usually; empty if nobody was ever in.
    pub protocol_type: String,
    /// How it assigns, once it does.
    pub protocol: String,
    /// Who is in.
    pub members: Vec<DescribedMember>,
}

impl DescribedGroup {
    /// A group that nobody is in.
    pub fn empty() -> Self {
        Self {
            state: "Empty",
            protocol_type: String::new(),
            protocol: String::new(),
            members: Vec::new(),
        }
    }
}

/// A member as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub id: String,
    /// The name of its place, if it is a static member.
    pub instance: Option<String>,
    /// Whose it is.
    pub client: Client,
    /// What it said when it joined.
    pub metadata: Bytes,
    /// What it was assigned.
    pub assignment: Bytes,
}

impl Group {
    /// Describes the group. What members said and got is told once everybody has it.
    pub fn describe(&self) -> DescribedGroup {
        let stable = self.phase == Phase::Stable;
        let told = |bytes: Bytes| if stable { bytes } else { Bytes::new() };
        let members = self.members.iter().map(|(id, member)| DescribedMember {
            id: id.clone(),
            instance: member.join.instance.clone(),
            client: member.join.client.clone(),
            metadata: told(member.metadata(&self.protocol)),
            assignment: told(member.assignment.clone()),
        });
        DescribedGroup {
            state: match self.phase {
                Phase::Empty => "Empty",
                Phase::Rebalancing { .. } => "PreparingRebalance",
                Phase::Assigning { .. } => "CompletingRebalance",
                Phase::Stable => "Stable",
            },
            protocol_type: self.protocol_type.clone(),
            protocol: if stable {
                self.protocol.clone()
            } else {
                String::new()
            },
            members: members.collect(),
        }
    }

    /// Says whether any member subscribes to a topic, as far as that can be known.
    fn subscribes_to(&self, topic: &str) -> bool {
        self.members.values().any(|member| {
            let mut protocols = member.join.protocols.iter();
            protocols.any(|protocol| {
                subscription(&protocol.metadata).any(|subscribed| subscribed == topic.as_bytes())
            })
        })
    }
}

/// Yields the topics in a consumer's metadata: a version, and then a list of names.
fn subscription(metadata: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = metadata.get(2..).unwrap_or_default();
    let count = rest.try_get_u32().unwrap_or(0);
    (0..count).map_while(move |_| {
        let bytes = usize::from(rest.try_get_u16().ok()?);
        let (name, tail) = rest.split_at_checked(bytes)?;
        rest = tail;
        Some(name)
    })
}

impl Coordinator {
    /// Describes a group that somebody is in or about to join.
    pub fn describe(&self, group: &str) -> Option<DescribedGroup> {
        self.with_group(group, |group| group.describe())
    }

    /// Says whether what a group committed for a topic may be taken away.
    ///
    /// # Errors
    /// If somebody uses it.
    pub fn may_forget(&self, group: &str, topic: &str) -> Result<(), ResponseError> {
        let verdict = self.with_group(group, |group| match group.protocol_type.as_str() {
            _ if group.members.is_empty() => Ok(()),
            CONSUMER if group.subscribes_to(topic) => Err(ResponseError::GroupSubscribedToTopic),
            CONSUMER => Ok(()),
            _ => Err(ResponseError::NonEmptyGroup),
        });
        verdict.unwrap_or(Ok(()))
    }

    /// Says whether a group may be deleted: nobody may be in.
    ///
    /// # Errors
    /// If somebody is.
    pub fn may_delete(&self, group: &str) -> Result<(), ResponseError> {
        match self.with_group(group, |group| group.members.is_empty()) {
            Some(false) => Err(ResponseError::NonEmptyGroup),
            Some(true) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_are_read_as_far_as_they_make_sense() {
        let check = |metadata: &[u8], expected: &[&[u8]]| {
            assert_eq!(subscription(metadata).collect::<Vec<_>>(), expected);
        };
        check(
            b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff",
            &[b"a", b"bc"],
        );
        check(b"\0\x01\xff\xff\xff\xff\0\x01a\0", &[b"a"]);
        check(b"\0\x01\0\0\0\x01\0\x05a", &[]);
        check(b"", &[]);
    }
}

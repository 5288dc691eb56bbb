//! Who has which partitions, as the brokers tell anybody.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

/// How long the brokers may take to tell.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The partitions of each member of a group, by what its client calls itself.
pub type Members = BTreeMap<String, Vec<(String, i32)>>;

/// Returns who is in a group and what each has; nobody while the group is not at rest.
///
/// # Errors
/// A broker that does not answer.
pub fn members(brokers: &str, group: &str) -> Result<Members> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    let consumer: BaseConsumer = config.create()?;
    let listed = consumer.fetch_group_list(Some(group), ANSWER_MAX)?;
    let mut members = Members::new();
    for group in listed
        .groups()
        .iter()
        .filter(|group| group.state() == "Stable")
    {
        for member in group.members() {
            let assignment = member.assignment().unwrap_or_default();
            let partitions = partitions(assignment).context("an assignment that can be read")?;
            // Two that call themselves the same are told apart by the ids that the broker gave them.
            let mut name = member.client_id().to_owned();
            if members.contains_key(&name) {
                name = member.id().to_owned();
            }
            members.insert(name, partitions);
        }
    }
    Ok(members)
}

/// Reads the assignment of a consumer: a version, then topics with their partitions.
fn partitions(mut bytes: &[u8]) -> Option<Vec<(String, i32)>> {
    let mut found = Vec::new();
    if bytes.is_empty() {
        return Some(found);
    }
    let bytes = &mut bytes;
    take::<2>(bytes)?;
    for _ in 0..i32::from_be_bytes(take(bytes)?) {
        let length = usize::try_from(i16::from_be_bytes(take(bytes)?)).ok()?;
        let (name, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        for _ in 0..i32::from_be_bytes(take(bytes)?) {
            let name = String::from_utf8(name.to_vec()).ok()?;
            found.push((name, i32::from_be_bytes(take(bytes)?)));
        }
    }
    Some(found)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_and_half_of_one_is_not() {
        let bytes = b"\0\0\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\x03\0\0\0\x07";
        let expected = vec![("t".to_owned(), 3), ("t".to_owned(), 7)];
        assert_eq!(partitions(bytes), Some(expected));
        assert_eq!(partitions(b""), Some(Vec::new()));
        assert_eq!(partitions(&bytes[..bytes.len() - 1]), None);
    }
}

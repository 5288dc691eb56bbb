//! Kafka's topic configs: their names, what each may be, and what holds where nothing is set.
//!
//! All of Kafka's names are known here, so that whatever configures topics for Apache Kafka works unchanged; what this
//! broker does not act upon (compression by the broker, flushes, tiers, quotas of replication) is kept and told again.

/// What a config's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Some of these words, with commas between them.
    Choices(&'static [&'static str]),
    /// Any words, with commas between them.
    List,
    /// A number of 32 bits, at least this one.
    Int(i64),
    /// A number of 64 bits, at least this one.
    Long(i64),
    /// A number from 0 to 1.
    Ratio,
}

/// One config.
#[derive(Debug)]
pub struct Definition {
    /// Its name.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// What holds where nothing is set, unless the broker's own limits say otherwise.
    pub default: &'static str,
    /// What it does, in one sentence.
    pub documentation: &'static str,
}

const fn config(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    documentation: &'static str,
) -> Definition {
    Definition {
        name,
        kind,
        default,
        documentation,
    }
}

const FOREVER: &str = "9223372036854775807";
const KEPT: &str = "Kept, but not acted upon by this broker.";

/// All configs, by name.
pub const DEFINITIONS: [Definition; 33] = [
    config(
        CLEANUP_POLICY,
        Kind::Choices(&["compact", "delete"]),
        "delete",
        "Whether old segments are deleted, or compacted to the last record of each key, or both.",
    ),
    config("compression.gzip.level", Kind::Int(-1), "-1", KEPT),
    config("compression.lz4.level", Kind::Int(1), "9", KEPT),
    config(
        "compression.type",
        Kind::Choice(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "producer",
        KEPT,
    ),
    config("compression.zstd.level", Kind::Int(-131_072), "3", KEPT),
    config(
        DELETE_RETENTION_MS,
        Kind::Long(0),
        "86400000",
        "How long a tombstone stays after the compaction that first met it.",
    ),
    config("file.delete.delay.ms", Kind::Long(0), "60000", KEPT),
    config("flush.messages", Kind::Long(1), FOREVER, KEPT),
    config("flush.ms", Kind::Long(0), FOREVER, KEPT),
    config(
        "follower.replication.throttled.replicas",
        Kind::List,
        "",
        KEPT,
    ),
    config("index.interval.bytes", Kind::Int(0), "4096", KEPT),
    config(
        "leader.replication.throttled.replicas",
        Kind::List,
        "",
        KEPT,
    ),
    config("local.retention.bytes", Kind::Long(-2), "-2", KEPT),
    config("local.retention.ms", Kind::Long(-2), "-2", KEPT),
    config(
        MAX_COMPACTION_LAG_MS,
        Kind::Long(1),
        FOREVER,
        "How old a record may get before its segment is finished and compacted whatever the ratio.",
    ),
    config(
        MAX_MESSAGE_BYTES,
        Kind::Int(0),
        "1048588",
        "How large a batch may be, as it is sent.",
    ),
    config(
        TIMESTAMP_AFTER_MAX_MS,
        Kind::Long(0),
        "3600000",
        "How far ahead of the broker's clock a record's time may be.",
    ),
    config(
        TIMESTAMP_BEFORE_MAX_MS,
        Kind::Long(0),
        FOREVER,
        "How far behind the broker's clock a record's time may be.",
    ),
    config(
        TIMESTAMP_TYPE,
        Kind::Choice(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        "Whether records keep the time that their producer gave them or get the broker's.",
    ),
    config(
        MIN_CLEANABLE_DIRTY_RATIO,
        Kind::Ratio,
        "0.5",
        "How much of the log must not have been compacted yet for a compaction to begin.",
    ),
    config(
        MIN_COMPACTION_LAG_MS,
        Kind::Long(0),
        "0",
        "How old a record must be to be compacted.",
    ),
    config("min.insync.replicas", Kind::Int(1), "1", KEPT),
    config("preallocate", Kind::Boolean, "false", KEPT),
    config("remote.copy.disable", Kind::Boolean, "false", KEPT),
    config("remote.log.delete.on.disable", Kind::Boolean, "false", KEPT),
    config("remote.storage.enable", Kind::Boolean, "false", KEPT),
    config(
        RETENTION_BYTES,
        Kind::Long(-1),
        "-1",
        "How large a partition may get before its oldest segments are deleted; -1 is without bound.",
    ),
    config(
        RETENTION_MS,
        Kind::Long(-1),
        "-1",
        "How old records may get before their segment is deleted; -1 is for ever.",
    ),
    config(
        SEGMENT_BYTES,
        Kind::Int(1_048_576),
        "33554432",
        "How large a segment may get; retention and compaction work on whole finished ones.",
    ),
    config("segment.index.bytes", Kind::Int(4), "10485760", KEPT),
    config("segment.jitter.ms", Kind::Long(0), "0", KEPT),
    config(
        SEGMENT_MS,
        Kind::Long(1),
        "604800000",
        "How long a segment may grow, by the broker's clock.",
    ),
    config(
        "unclean.leader.election.enable",
        Kind::Boolean,
        "false",
        KEPT,
    ),
];

pub const CLEANUP_POLICY: &str = "cleanup.policy";
pub const DELETE_RETENTION_MS: &str = "delete.retention.ms";
pub const MAX_COMPACTION_LAG_MS: &str = "max.compaction.lag.ms";
pub const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
pub const TIMESTAMP_AFTER_MAX_MS: &str = "message.timestamp.after.max.ms";
pub const TIMESTAMP_BEFORE_MAX_MS: &str = "message.timestamp.before.max.ms";
pub const TIMESTAMP_TYPE: &str = "message.timestamp.type";
pub const MIN_CLEANABLE_DIRTY_RATIO: &str = "min.cleanable.dirty.ratio";
pub const MIN_COMPACTION_LAG_MS: &str = "min.compaction.lag.ms";
pub const RETENTION_BYTES: &str = "retention.bytes";
pub const RETENTION_MS: &str = "retention.ms";
pub const SEGMENT_BYTES: &str = "segment.bytes";
pub const SEGMENT_MS: &str = "segment.ms";

/// Finds a config by its name.
pub fn find(name: &str) -> Option<&'static Definition> {
    DEFINITIONS
        .binary_search_by(|definition| definition.name.cmp(name))
        .ok()
        .map(|at| &DEFINITIONS[at])
}

/// Splits a list as Kafka does.
pub fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

impl Definition {
    /// Says what is wrong with a value, if anything.
    ///
    /// # Errors
    /// What it should be, for the client to read.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let wrong = |should: &str| {
            Err(format!(
                "invalid value {value:?} for configuration {}: it should be {should}",
                self.name
            ))
        };
        let number = |min: i64, max: i64| match value.parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(()),
            _ => wrong(&format!("a number from {min} to {max}")),
        };
        match self.kind {
            Kind::Boolean => match value {
                "true" | "false" => Ok(()),
                _ => wrong("true or false"),
            },
            Kind::Choice(allowed) if !allowed.contains(&value) => {
                wrong(&format!("one of {}", allowed.join(", ")))
            }
            Kind::Choices(allowed) if words(value).any(|word| !allowed.contains(&word)) => {
                wrong(&format!("some of {}", allowed.join(", ")))
            }
            Kind::Choice(_) | Kind::Choices(_) | Kind::List => Ok(()),
            Kind::Int(min) => number(min, i64::from(i32::MAX)),
            Kind::Long(min) => number(min, i64::MAX),
            Kind::Ratio => match value.parse::<f64>() {
                Ok(number) if (0.0..=1.0).contains(&number) => Ok(()),
                _ => wrong("a number from 0 to 1"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_valid_and_found_by_its_name() {
        for definition in &DEFINITIONS {
            assert_eq!(definition.check(definition.default), Ok(()));
            assert!(find(definition.name).is_some_and(|found| found.name == definition.name));
        }
        assert!(find("retention").is_none());
    }

    #[test]
    fn values_are_checked_by_kind() {
        let check = |name: &str, value: &str, sound: bool| {
            let found = find(name).unwrap().check(value);
            assert_eq!(found.is_ok(), sound, "{name}={value}: {found:?}");
        };
        check(RETENTION_MS, "-1", true);
        check(RETENTION_MS, "-2", false);
        check(RETENTION_MS, "9223372036854775808", false);
        check(SEGMENT_BYTES, "1048575", false);
        check(SEGMENT_BYTES, "2147483648", false);
        check(CLEANUP_POLICY, "compact, delete", true);
        check(CLEANUP_POLICY, "compact,keep", false);
        check(TIMESTAMP_TYPE, "createtime", false);
        check(MIN_CLEANABLE_DIRTY_RATIO, "1.5", false);
        check(MIN_CLEANABLE_DIRTY_RATIO, "NaN", false);
        check("preallocate", "yes", false);
    }
}

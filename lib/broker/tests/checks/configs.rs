//! Configs of topics: set, told, changed, refused, and what they do.

use kafka_protocol::messages::alter_configs_request::{
    AlterConfigsResource as Replaced, AlterableConfig as Value,
};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
};

use super::*;

const TOPIC: i8 = 2;
const SET_FOR_TOPIC: i8 = 1;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Returns the error code and what is set for a topic itself, each with its value.
fn described(wire: &mut Wire, topic: &str) -> (i16, Vec<(String, String)>) {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answer = wire.ask(4, &request);
    let result = &answer.results[0];
    let set = result
        .configs
        .iter()
        .filter(|config| config.config_source == SET_FOR_TOPIC);
    let mut told: Vec<_> = set
        .map(|config| {
            let value = config.value.as_ref().unwrap();
            (config.name.to_string(), value.to_string())
        })
        .collect();
    told.sort();
    (result.error_code, told)
}

/// Waits until this is set for a topic, and nothing else: a real broker follows its controller.
fn settled(wire: &mut Wire, topic: &str, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let deadline = Instant::now() + PATIENCE;
    while described(wire, topic) != (NONE, expected.clone()) {
        let found = described(wire, topic);
        assert!(Instant::now() < deadline, "{found:?} is not {expected:?}");
    }
}

fn change(
    wire: &mut Wire,
    topic: &str,
    changes: &[(i8, &str, Option<&str>)],
    only_check: bool,
) -> i16 {
    let changes = changes.iter().map(|(operation, name, value)| {
        AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(*operation)
            .with_value(value.map(text))
    });
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configs(changes.collect());
    let request = IncrementalAlterConfigsRequest::default()
        .with_resources(vec![resource])
        .with_validate_only(only_check);
    wire.ask(1, &request).responses[0].error_code
}

pub fn creation(address: &str) {
    let wire = &mut Wire::connect(address);
    let name = fresh("created");
    let mut make =
        |configs: &[(&str, Option<&str>)], only_check| create(wire, &name, 2, configs, only_check);
    assert_eq!(
        make(&[("no.such.config", Some("1"))], false),
        INVALID_CONFIG
    );
    assert_eq!(
        make(&[("retention.ms", Some("soon"))], false),
        INVALID_CONFIG
    );
    assert_eq!(make(&[("retention.ms", Some("-2"))], false), INVALID_CONFIG);
    assert_eq!(make(&[("retention.ms", None)], false), INVALID_CONFIG);
    assert_eq!(
        make(&[("cleanup.policy", Some("keep"))], false),
        INVALID_CONFIG
    );
    assert_eq!(
        make(&[("segment.bytes", Some("100"))], false),
        INVALID_CONFIG
    );
    let lags = [
        ("min.compaction.lag.ms", Some("2")),
        ("max.compaction.lag.ms", Some("1")),
    ];
    assert_eq!(make(&lags, false), INVALID_CONFIG);
    let sound = [
        ("retention.ms", Some("60000")),
        ("cleanup.policy", Some("compact,delete")),
    ];
    assert_eq!(make(&sound, true), NONE);
    assert_eq!(make(&sound, false), NONE, "only checked before");
    assert_eq!(make(&sound, true), TOPIC_ALREADY_EXISTS);
    assert_eq!(make(&sound, false), TOPIC_ALREADY_EXISTS);
    let expected = [
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", "60000"),
    ];
    settled(wire, &name, &expected);
    assert_eq!(
        create(wire, &fresh("none"), 0, &[], false),
        INVALID_PARTITIONS
    );
    assert_eq!(create(wire, "a b", 1, &[], false), INVALID_TOPIC_EXCEPTION);
}

pub fn incremental(address: &str) {
    let wire = &mut Wire::connect(address);
    let name = topic(wire, "changed", 1, &[("retention.ms", "1000000")]);
    let set = [
        (SET, "max.message.bytes", Some("2000")),
        (DELETE, "retention.ms", None),
    ];
    assert_eq!(change(wire, &name, &set, true), NONE);
    settled(wire, &name, &[("retention.ms", "1000000")]);
    assert_eq!(change(wire, &name, &set, false), NONE);
    settled(wire, &name, &[("max.message.bytes", "2000")]);
    let append = [(APPEND, "cleanup.policy", Some("compact"))];
    assert_eq!(change(wire, &name, &append, false), NONE);
    let both = [
        ("cleanup.policy", "delete,compact"),
        ("max.message.bytes", "2000"),
    ];
    settled(wire, &name, &both);
    let subtract = [(SUBTRACT, "cleanup.policy", Some("delete"))];
    assert_eq!(change(wire, &name, &subtract, false), NONE);
    let one = [("cleanup.policy", "compact"), ("max.message.bytes", "2000")];
    settled(wire, &name, &one);
    let mut refused = |changes: &[(i8, &str, Option<&str>)]| change(wire, &name, changes, false);
    assert_eq!(
        refused(&[(SET, "no.such.config", Some("1"))]),
        INVALID_CONFIG
    );
    assert_eq!(
        refused(&[(SET, "retention.ms", Some("soon"))]),
        INVALID_CONFIG
    );
    assert_eq!(refused(&[(SET, "retention.ms", None)]), INVALID_REQUEST);
    assert_eq!(
        refused(&[(APPEND, "retention.ms", Some("1"))]),
        INVALID_CONFIG
    );
    let twice = [
        (SET, "retention.ms", Some("1000")),
        (DELETE, "retention.ms", None),
    ];
    assert_eq!(refused(&twice), INVALID_REQUEST);
    let half = [
        (SET, "flush.ms", Some("5")),
        (SET, "segment.ms", Some("never")),
    ];
    assert_eq!(refused(&half), INVALID_CONFIG, "all or nothing");
    settled(wire, &name, &one);
}

pub fn replaced(address: &str) {
    let wire = &mut Wire::connect(address);
    let name = topic(wire, "replaced", 1, &[("retention.ms", "1000000")]);
    let mut replace = |key: &str, value: &str| {
        let value = Value::default()
            .with_name(text(key))
            .with_value(Some(text(value)));
        let resource = Replaced::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(&name))
            .with_configs(vec![value]);
        let request = AlterConfigsRequest::default().with_resources(vec![resource]);
        wire.ask(2, &request).responses[0].error_code
    };
    assert_eq!(replace("no.such.config", "1"), INVALID_CONFIG);
    assert_eq!(replace("max.message.bytes", "many"), INVALID_CONFIG);
    assert_eq!(replace("max.message.bytes", "3000"), NONE);
    settled(wire, &name, &[("max.message.bytes", "3000")]);
}

pub fn of_nothing(address: &str) {
    let wire = &mut Wire::connect(address);
    let name = fresh("nothing");
    assert_eq!(described(wire, &name).0, UNKNOWN_TOPIC_OR_PARTITION);
    let set = [(SET, "retention.ms", Some("1000"))];
    assert_eq!(change(wire, &name, &set, false), UNKNOWN_TOPIC_OR_PARTITION);
}

pub fn message_bytes(address: &str) {
    let wire = &mut Wire::connect(address);
    let name = topic(wire, "small", 1, &[("max.message.bytes", "1000")]);
    let large = batch(&[(None, &[b'x'; 1_500])], now_ms(), NOBODY);
    assert_eq!(produce(wire, &name, &large).0, MESSAGE_TOO_LARGE);
    assert_eq!(list_offset(wire, &name, 0, -1), (NONE, 0));
    let raised = [(SET, "max.message.bytes", Some("2000"))];
    assert_eq!(change(wire, &name, &raised, false), NONE);
    settled(wire, &name, &[("max.message.bytes", "2000")]);
    assert_eq!(produce(wire, &name, &large), (NONE, 0));
}

pub fn keys(address: &str) {
    let wire = &mut Wire::connect(address);
    let name = topic(wire, "compacted", 1, &[("cleanup.policy", "compact")]);
    let without = batch(&[(Some("a"), b"1"), (None, b"2")], now_ms(), NOBODY);
    assert_eq!(produce(wire, &name, &without).0, INVALID_RECORD);
    let with = batch(&[(Some("a"), b"1"), (Some(""), b"2")], now_ms(), NOBODY);
    assert_eq!(produce(wire, &name, &with), (NONE, 0));
}

pub fn times(address: &str) {
    let wire = &mut Wire::connect(address);
    let hour_ms = 60 * 60 * 1_000;
    let name = topic(wire, "times", 1, &[]);
    let ahead = batch(&[(None, b"x")], now_ms() + 2 * hour_ms, NOBODY);
    assert_eq!(produce(wire, &name, &ahead).0, INVALID_TIMESTAMP);
    let old = batch(&[(None, b"x")], 1_000, NOBODY);
    assert_eq!(produce(wire, &name, &old), (NONE, 0));
    let name = topic(
        wire,
        "times",
        1,
        &[("message.timestamp.before.max.ms", "3600000")],
    );
    assert_eq!(produce(wire, &name, &old).0, INVALID_TIMESTAMP);
    let name = topic(
        wire,
        "times",
        1,
        &[("message.timestamp.type", "LogAppendTime")],
    );
    assert_eq!(
        produce(wire, &name, &ahead),
        (NONE, 0),
        "its time does not count"
    );
}

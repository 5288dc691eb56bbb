//! The checks that Apache Kafka passes too, on the embedded broker.

#![allow(clippy::unwrap_used)] // helpers of tests fail as they do

mod checks;
mod support;

use support::Sandbox;

#[test]
fn the_embedded_broker_answers_as_kafka_does() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path());
    checks::run_all(&sandbox.address.to_string());
}

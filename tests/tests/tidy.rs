//! The layers of ARCHITECTURE.md, held against what the manifests say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// What each package may depend on, of ours.
const ALLOWED: &[(&str, &[&str])] = &[
    ("schemas", &[]),
    ("broker", &[]),
    ("telemetry", &[]),
    ("worker", &["schemas", "telemetry"]),
    ("seal", &["schemas"]),
    ("learn", &["schemas"]),
    ("ingest", &["schemas", "seal", "telemetry", "worker"]),
    ("sink", &["schemas", "seal", "telemetry", "worker"]),
    ("trainer", &["learn", "schemas", "telemetry", "worker"]),
    ("scorer", &["learn", "schemas", "telemetry", "worker"]),
    (
        "thalweg",
        &[
            "broker",
            "ingest",
            "learn",
            "schemas",
            "scorer",
            "seal",
            "sink",
            "telemetry",
            "trainer",
            "worker",
        ],
    ),
    (
        "tests",
        &["broker", "learn", "schemas", "thalweg", "worker"],
    ),
];

/// What `schemas` must never know.
const NOT_IN_SCHEMAS: &[&str] = &["tokio", "rdkafka", "chrono", "futures"];

/// Asks cargo for our packages.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata failed");
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

#[test]
fn packages_depend_on_what_lies_below_them_only() {
    let packages = packages();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    for package in &packages {
        let name = package["name"].as_str().unwrap();
        let below = allowed
            .get(name)
            .unwrap_or_else(|| panic!("{name} is new: say what it may depend on"));
        for dependency in package["dependencies"].as_array().unwrap() {
            // Cargo's word for a dependency that is neither for tests nor for build scripts.
            if !dependency["kind"].is_null() {
                continue;
            }
            let other = dependency["name"].as_str().unwrap();
            let of_ours = allowed.contains_key(other) && dependency["path"].is_string();
            assert!(
                !of_ours || below.contains(&other),
                "{name} must not know {other}"
            );
            let outside = name == "schemas" && NOT_IN_SCHEMAS.contains(&other);
            assert!(!outside, "schemas must not know {other}");
        }
    }
    assert_eq!(packages.len(), ALLOWED.len());
}

/// What cargo builds, a line for each package with its version and features.
fn built(selection: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--prefix", "none", "--format", "{p} {f}", "--edges"])
        .args(selection)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo tree failed");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| line.trim_end_matches(" (*)").to_owned())
        .collect()
}

#[test]
fn the_tests_build_nothing_anew_that_the_demo_built() {
    let demo = built(&["normal,build", "--package", "thalweg"]);
    let tests = built(&["normal,build,dev", "--workspace"]);
    let anew: Vec<&String> = demo.difference(&tests).collect();
    assert!(
        anew.is_empty(),
        "with the tests these are built with more features, so everything above them is built twice: {anew:?}"
    );
}

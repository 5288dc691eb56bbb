//! The layers of ARCHITECTURE.md, held against what the manifests say.

use std::collections::BTreeMap;

use cargo_metadata::{DependencyKind, MetadataCommand};

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

#[test]
fn packages_depend_on_what_lies_below_them_only() {
    let metadata = MetadataCommand::new().no_deps().exec().unwrap();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let below = allowed
            .get(name)
            .unwrap_or_else(|| panic!("{name} is new: say what it may depend on"));
        for dependency in package
            .dependencies
            .iter()
            .filter(|d| d.kind == DependencyKind::Normal)
        {
            let of_ours =
                allowed.contains_key(dependency.name.as_str()) && dependency.path.is_some();
            assert!(
                !of_ours || below.contains(&dependency.name.as_str()),
                "{name} must not know {}",
                dependency.name
            );
            let outside = name == "schemas" && NOT_IN_SCHEMAS.contains(&dependency.name.as_str());
            assert!(!outside, "schemas must not know {}", dependency.name);
        }
    }
    assert_eq!(metadata.packages.len(), ALLOWED.len());
}

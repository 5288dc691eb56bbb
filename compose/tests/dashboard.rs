//! The dashboard shows metrics that exist.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use telemetry::names;

const DASHBOARD: &str = include_str!("../grafana/dashboards/thalweg.json");

/// What exposition adds to a name, by kind and unit.
const SUFFIXES: [&str; 6] = [
    "",
    "_total",
    "_ratio",
    "_seconds",
    "_seconds_bucket",
    "_bytes",
];

#[test]
fn every_metric_of_the_dashboard_is_one_of_ours() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let known: Vec<String> = names::ALL
        .iter()
        .map(|signal| signal.name.replace('.', "_"))
        .collect();
    let mut found = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            for word in expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                if !word.starts_with("thalweg_") && !word.starts_with("process_") {
                    continue;
                }
                found += 1;
                let is_ours = known.iter().any(|name| {
                    word.strip_prefix(name.as_str())
                        .is_some_and(|rest| SUFFIXES.contains(&rest))
                });
                assert!(is_ours, "`{word}` in panel {}", panel["title"]);
            }
        }
    }
    assert!(40 < found, "only {found} metrics found");
}

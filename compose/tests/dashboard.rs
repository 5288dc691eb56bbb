//! The dashboard shows metrics that exist, and alerts watch such.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use telemetry::names;

const DASHBOARD: &str = include_str!("../grafana/dashboards/thalweg.json");
const ALERTS: &str = include_str!("../prometheus/alerts.yaml");

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
    let mut found = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            for word in metrics(expression) {
                found += 1;
                assert!(is_ours(word), "`{word}` in panel {}", panel["title"]);
            }
        }
    }
    assert!(40 < found, "only {found} metrics found");
}

#[test]
fn every_metric_of_an_alert_is_one_of_ours() {
    let expressions = ALERTS
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "));
    let found: Vec<&str> = expressions.flat_map(metrics).collect();
    assert!(found.contains(&"thalweg_audit_broken_promises"));
    for word in found {
        assert!(is_ours(word), "`{word}` in an alert");
    }
}

/// Returns the words of an expression that are metrics.
fn metrics(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("thalweg_") || word.starts_with("process_"))
}

/// Says whether a metric is one of ours.
fn is_ours(word: &str) -> bool {
    names::ALL.iter().any(|signal| {
        word.strip_prefix(signal.name.replace('.', "_").as_str())
            .is_some_and(|rest| SUFFIXES.contains(&rest))
    })
}

//! What an audit came to: a table for people, one JSON object for scripts.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::ledger::{Finding, Ledger, Promise};
use crate::text;

/// What an audit came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The stream.
    pub stream: String,
    /// The promises that were looked at.
    pub looked_at: Vec<Promise>,
    /// Where each raw partition ended when the audit began.
    pub through: BTreeMap<i32, i64>,
    /// Tallies and findings.
    pub ledger: Ledger,
}

impl Report {
    /// Says whether every promise that was looked at holds.
    pub fn holds(&self) -> bool {
        self.ledger.holds()
    }

    /// Returns one JSON object.
    pub fn json(&self) -> Value {
        let promises: serde_json::Map<String, Value> = Promise::ALL
            .iter()
            .map(|promise| (promise.name().to_owned(), self.promise(*promise)))
            .collect();
        json!({
            "stream": self.stream,
            "holds": self.holds(),
            "through": self.through,
            "promises": promises,
        })
    }

    fn promise(&self, promise: Promise) -> Value {
        if !self.looked_at.contains(&promise) {
            return Value::Null;
        }
        let tally = self.ledger.tally(promise);
        let broken = self.ledger.broken(promise);
        let firsts: Vec<Value> = self.ledger.firsts(promise).map(finding).collect();
        json!({
            "holds": broken == 0,
            "unit": promise.unit(),
            "looked_at": tally.looked_at,
            "repeated": tally.repeated,
            "pending": tally.pending,
            "expired": tally.expired,
            "broken": broken,
            "first": firsts.first(),
            "first_by_partition": firsts,
        })
    }

    /// Writes a table, and what breaks promises below it.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<13} {:>14} {:<14} {:>10} {:>10} {:>10}\n",
            "promise", "looked at", "", "repeated", "pending", "expired"
        );
        for promise in Promise::ALL {
            let name = promise.name();
            if !self.looked_at.contains(&promise) {
                let _ = writeln!(text, "{name:<13} {:>14}", "not looked at");
                continue;
            }
            let tally = self.ledger.tally(promise);
            let broken = self.ledger.broken(promise);
            let verdict = match broken {
                0 => "holds".to_owned(),
                _ => format!("BROKEN {}", text::plural(broken, "time", "times")),
            };
            let _ = writeln!(
                text,
                "{name:<13} {:>14} {:<14} {:>10} {:>10} {:>10}  {verdict}",
                text::count(tally.looked_at),
                promise.unit(),
                text::count(tally.repeated),
                text::count(tally.pending),
                text::count(tally.expired),
            );
        }
        text + &self.findings()
    }

    /// Writes the first finding of each promise and partition, a line for each.
    pub fn findings(&self) -> String {
        let firsts = Promise::ALL
            .iter()
            .flat_map(|promise| self.ledger.firsts(*promise));
        firsts.map(|finding| line(finding) + "\n").collect()
    }
}

fn finding(finding: &Finding) -> Value {
    json!({
        "partition": finding.partition,
        "offset": finding.offset,
        "what": finding.what,
    })
}

fn line(finding: &Finding) -> String {
    let (name, what) = (finding.promise.name(), &finding.what);
    match (finding.partition, finding.offset) {
        (Some(partition), Some(offset)) => {
            format!("{name}: first broken at partition {partition}, offset {offset}: {what}")
        }
        _ => format!("{name}: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_the_first_offset() {
        let mut ledger = Ledger::default();
        ledger.count(Promise::Conservation).looked_at = 1_234_567;
        for (partition, offset) in [(1, 9), (0, 7), (0, 5)] {
            let what = || "it is clean and dead".to_owned();
            ledger.breaks(Promise::Conservation, Some(partition), Some(offset), what);
        }
        let report = Report {
            stream: "flights".to_owned(),
            looked_at: vec![Promise::Conservation, Promise::Coverage],
            through: BTreeMap::from([(0, 8), (1, 10)]),
            ledger,
        };
        assert!(!report.holds());
        let json = report.json();
        let conservation = &json["promises"]["conservation"];
        assert_eq!(conservation["broken"], 3);
        assert_eq!(conservation["first"]["partition"], 0);
        assert_eq!(conservation["first"]["offset"], 5);
        assert_eq!(json["through"]["1"], 10);
        assert_eq!(json["promises"]["coverage"]["holds"], true);
        assert!(json["promises"]["lake"].is_null());
        let table = report.table();
        for part in [
            "1,234,567",
            "BROKEN 3 times",
            "partition 0, offset 5: it is clean and dead",
            "partition 1, offset 9",
            "not looked at",
        ] {
            assert!(table.contains(part), "{part} in {table}");
        }
    }
}

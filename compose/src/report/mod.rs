//! Writes what a run came to as one HTML page that needs nothing else.

mod sections;
pub(crate) mod svg;

use std::fmt::Write;

use svg::escape;

use crate::demo::{Outcome, Step};
use crate::text;

pub(crate) const STYLE: &str = include_str!("style.css");

/// Returns the page.
pub fn html(outcome: &Outcome, steps: &[Step]) -> String {
    let mut page = String::with_capacity(128 << 10);
    page.push_str("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    let _ = write!(
        page,
        "<title>Thalweg: what the run came to</title><style>{STYLE}</style></head><body><main>"
    );
    head(&mut page, outcome);
    tiles(&mut page, outcome);
    page.push_str("<div class=\"plots\">");
    sections::quality(&mut page, outcome);
    sections::speed(&mut page, outcome);
    sections::refused(&mut page, outcome);
    sections::workers(&mut page, outcome);
    sections::drift(&mut page, outcome);
    sections::sums(&mut page, outcome);
    sections::next(&mut page, steps);
    page.push_str("</div></main></body></html>\n");
    page
}

fn head(page: &mut String, outcome: &Outcome) {
    let (verdict, class) = if outcome.holds() {
        ("every sum comes out", "good")
    } else {
        ("a sum does not come out: see below", "bad")
    };
    let _ = write!(
        page,
        "<h1>{} flights, from raw to scored, learned and landed</h1>\
         <p class=\"lead\">Every figure here was observed from outside: acknowledgements, topics, the lake's log and \
         files, the workers' pages. Served scores use whatever weights the scorer had at that moment: at full speed a \
         day of the stream lasts milliseconds, so scorer and trainer may be days apart, in either direction. The \
         trainer's own figure, each flight predicted just before its label is learned, does not depend on that.</p>\
         <p class=\"verdict {class}\">{verdict}</p>",
        text::count(outcome.played.events)
    );
}

fn tiles(page: &mut String, outcome: &Outcome) {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
    let quality = outcome.quality.as_ref();
    let (p50, p99) = (
        outcome.latency.quantile_ms(0.5),
        outcome.latency.quantile_ms(0.99),
    );
    let base =
        quality.map(|quality| format!("log loss; the base rate has {:.4}", quality.base_log_loss));
    let tiles = [
        (
            text::count(outcome.events_per_second() as u64),
            "events a second, raw to landed".to_owned(),
        ),
        (
            or_dash(quality.map(|quality| format!("{:.4}", quality.log_loss))),
            base.unwrap_or_else(|| "log loss".to_owned()),
        ),
        (
            or_dash(outcome.trainer_log_loss.map(|loss| format!("{loss:.4}"))),
            "log loss, trainer: predict, then learn".to_owned(),
        ),
        (
            or_dash(quality.map(|quality| format!("{:.4}", quality.auc))),
            "AUC of the served scores".to_owned(),
        ),
        (
            or_dash(p50.map(duration)),
            "raw to score, median".to_owned(),
        ),
        (
            or_dash(p99.map(duration)),
            "raw to score, 99th percentile".to_owned(),
        ),
        (
            text::count(outcome.dead_total()),
            "refused, each with its reason".to_owned(),
        ),
    ];
    page.push_str("<div class=\"tiles\">");
    for (figure, name) in tiles {
        let _ = write!(
            page,
            "<div class=\"tile\"><b>{figure}</b><span>{}</span></div>",
            escape(&name)
        );
    }
    page.push_str("</div>");
}

pub(crate) fn section(page: &mut String, class: &str, title: &str, says: &str, body: &str) {
    let _ = write!(
        page,
        "<section class=\"{class}\"><h2>{}</h2><p>{}</p>{body}</section>",
        escape(title),
        escape(says)
    );
}

/// Writes milliseconds in the unit that suits them.
fn duration(ms: f64) -> String {
    match ms {
        ms if ms < 0.1 => format!("{:.0} µs", 1000.0 * ms),
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use schemas::dead::Reason;

    use super::*;
    use crate::demo::{Drift, Histogram, Judged, Landed, Look, Quality};
    use crate::produce::Played;
    use crate::supervise::Usage;

    fn outcome() -> Outcome {
        let judged: Vec<Judged> = (0..5000_u32)
            .map(|n| {
                let score = f64::from(n.wrapping_mul(2_654_435_761) >> 16) / 65_536.0;
                let label = f64::from(n.wrapping_mul(40_503) % 997) / 997.0 < score;
                Judged {
                    micros: 1_357_035_300_000_000 + i64::from(n) * 6_000_000_000,
                    score,
                    label,
                }
            })
            .collect();
        let mut latency = Histogram::default();
        (1..500).for_each(|ms| latency.add(Duration::from_millis(ms)));
        let looks = (0..40).map(|at| Look {
            seconds: f64::from(at) / 10.0,
            raw: at as u64 * 100,
            scored: at as u64 * 90,
            p50_ms: Some(3.0 + f64::from(at)),
            p99_ms: Some(30.0),
            ..Look::default()
        });
        Outcome {
            played: Played {
                events: 5000,
                raw: 5010,
                labels: 4900,
                ..Played::default()
            },
            raw: 5010,
            labels: 4900,
            clean: 5000,
            dead: [(Reason::Malformed, 7), (Reason::Duplicate, 3)].into(),
            dirt_refused: 10,
            contradictions: 0,
            unreadable: 0,
            landed: Landed {
                rows: 5000,
                ..Landed::default()
            },
            learned: 4900,
            labelled_clean: 4900,
            scored: 5000,
            quality: Quality::of(&judged, 60, 20),
            trainer_log_loss: Some(0.45),
            drift: vec![Drift {
                feature: "carrier".to_owned(),
                psi: 0.2,
                floor: 0.01,
            }],
            latency,
            elapsed: Duration::from_secs(4),
            usage: vec![(
                "ingest",
                Usage {
                    peak_rss_bytes: 100 << 20,
                    cpu: Duration::from_millis(900),
                },
            )],
            looks: looks.collect(),
            folder: "/tmp/run".into(),
        }
    }

    #[test]
    fn the_page_shows_everything_and_needs_nothing() {
        let steps = [Step {
            what: "look",
            command: "duckdb -c \"select '<b>'\"".to_owned(),
        }];
        let page = html(&outcome(), &steps);
        for part in [
            "5,000 flights",
            "every sum comes out",
            "Calibration",
            "Latency",
            "duplicate",
            "carrier",
            "&lt;b&gt;",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("http"), "nothing comes from elsewhere");
        assert!(!page.contains("NaN") && !page.contains("inf"));
        let mut short = outcome();
        short.landed.rows -= 1;
        assert!(html(&short, &[]).contains("a sum does not come out"));
    }

    #[test]
    fn the_summary_has_what_it_must() {
        let summary = outcome().to_json();
        let keys: Vec<&str> = summary
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut expected = vec![
            "raw",
            "clean",
            "dead",
            "landed",
            "labels",
            "learned",
            "scored",
            "log_loss",
            "auc",
            "trainer_log_loss",
            "base_log_loss",
            "drift",
            "events_per_second",
            "raw_to_score_ms",
            "peak_rss_bytes",
            "folder",
        ];
        expected.sort_unstable();
        assert_eq!(keys, expected);
        assert_eq!(summary["dead"]["malformed"], 7);
        assert_eq!(summary["peak_rss_bytes"]["ingest"], 100 << 20);
        assert_eq!(summary["events_per_second"], 1250.0);
    }
}

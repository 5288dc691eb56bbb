//! Writes what a run came to as one HTML page that needs nothing else.

mod svg;

use std::fmt::Write;

use svg::{Axis, Scale, Series, escape};

use crate::demo::{Look, Outcome, Step};
use crate::text;

const STYLE: &str = include_str!("style.css");

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
    quality(&mut page, outcome);
    speed(&mut page, outcome);
    refused(&mut page, outcome);
    workers(&mut page, outcome);
    drift(&mut page, outcome);
    sums(&mut page, outcome);
    next(&mut page, steps);
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
         files, the workers' pages. Scores were served before their flight's arrival was known.</p>\
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

fn section(page: &mut String, class: &str, title: &str, says: &str, body: &str) {
    let _ = write!(
        page,
        "<section class=\"{class}\"><h2>{}</h2><p>{}</p>{body}</section>",
        escape(title),
        escape(says)
    );
}

fn quality(page: &mut String, outcome: &Outcome) {
    let Some(quality) = &outcome.quality else {
        return;
    };
    let date = |micros: f64| {
        text::moment(micros as i64)
            .chars()
            .take(10)
            .collect::<String>()
    };
    let plain = |value: f64| format!("{value:.2}");
    let x = Axis {
        scale: Scale::Linear,
        range: None,
        mark: &date,
    };
    let over_time = |value: &dyn Fn(&crate::demo::Window) -> Option<f64>| {
        quality
            .windows
            .iter()
            .filter_map(|window| Some((window.micros as f64, value(window)?)))
            .collect::<Vec<_>>()
    };
    let y = Axis {
        scale: Scale::Linear,
        range: None,
        mark: &plain,
    };
    let losses = [
        Series {
            name: "served scores",
            class: "s0",
            points: over_time(&|window| Some(window.log_loss)),
        },
        Series {
            name: "always the base rate",
            class: "muted",
            points: over_time(&|window| Some(window.base_log_loss)),
        },
    ];
    let says = "nats, of the scores as served, by stretches of stream time";
    section(
        page,
        "",
        "Log loss",
        says,
        &svg::lines("Log loss over stream time", &x, &y, &losses),
    );
    let areas = over_time(&|window| window.auc);
    let ends = areas
        .first()
        .zip(areas.last())
        .map_or_else(Vec::new, |(first, last)| {
            vec![(first.0, 0.5), (last.0, 0.5)]
        });
    let areas = [
        Series {
            name: "served scores",
            class: "s0",
            points: areas,
        },
        Series {
            name: "always the base rate",
            class: "muted",
            points: ends,
        },
    ];
    let says = "area under the ROC curve, by stretches of stream time";
    section(
        page,
        "",
        "AUC",
        says,
        &svg::lines("AUC over stream time", &x, &y, &areas),
    );
    let points: Vec<_> = quality
        .calibration
        .iter()
        .map(|bin| (bin.predicted, bin.observed, bin.count))
        .collect();
    let says = "predicted (across) against observed (up); on the line, 30 % means 30 %";
    section(
        page,
        "",
        "Calibration",
        says,
        &svg::calibration("Calibration", &points),
    );
}

fn speed(page: &mut String, outcome: &Outcome) {
    let seconds = |value: f64| format!("{value:.1} s");
    let count = |value: f64| text::count(value.max(0.0) as u64);
    let across = || Axis {
        scale: Scale::Linear,
        range: None,
        mark: &seconds,
    };
    let of = |value: &dyn Fn(&Look) -> u64| {
        outcome
            .looks
            .iter()
            .map(|look| (look.seconds, value(look) as f64))
            .collect::<Vec<_>>()
    };
    let series = [
        Series {
            name: "raw",
            class: "muted",
            points: of(&|look| look.raw),
        },
        Series {
            name: "clean",
            class: "s2",
            points: of(&|look| look.clean),
        },
        Series {
            name: "scored",
            class: "s0",
            points: of(&|look| look.scored),
        },
        Series {
            name: "learned",
            class: "s1",
            points: of(&|look| look.learned),
        },
        Series {
            name: "landed",
            class: "s3",
            points: of(&|look| look.landed),
        },
    ];
    let y = Axis {
        scale: Scale::Linear,
        range: None,
        mark: &count,
    };
    let says =
        "events so far, by seconds since the start; workers drain and land the rest at the end";
    section(
        page,
        "",
        "Throughput",
        says,
        &svg::lines("Throughput", &across(), &y, &series),
    );
    let millis = |value: f64| duration(value);
    let log = Axis {
        scale: Scale::Log,
        range: None,
        mark: &millis,
    };
    let lately = |value: &dyn Fn(&Look) -> Option<f64>| {
        outcome
            .looks
            .iter()
            .filter_map(|look| Some((look.seconds, value(look)?)))
            .collect::<Vec<_>>()
    };
    let series = [
        Series {
            name: "median",
            class: "s0",
            points: lately(&|look| look.p50_ms),
        },
        Series {
            name: "99th percentile",
            class: "s1",
            points: lately(&|look| look.p99_ms),
        },
    ];
    let says = "from the acknowledgement of the raw event to its score, by seconds since the start";
    section(
        page,
        "",
        "Latency",
        says,
        &svg::lines("Latency over time", &across(), &log, &series),
    );
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let shares = Axis {
        scale: Scale::Linear,
        range: Some((0.0, 1.0)),
        mark: &percent,
    };
    let x = Axis {
        scale: Scale::Log,
        range: None,
        mark: &millis,
    };
    let series = [Series {
        name: "share of scores that came within",
        class: "s0",
        points: outcome.latency.cumulative(),
    }];
    let says = "share of all scores (up) that came within a time (across)";
    section(
        page,
        "",
        "Latency, all scores",
        says,
        &svg::lines("Latency, cumulative", &x, &shares, &series),
    );
}

fn refused(page: &mut String, outcome: &Outcome) {
    let rows: Vec<_> = outcome
        .dead
        .iter()
        .map(|(reason, count)| {
            (
                reason.name().replace('_', " "),
                *count as f64,
                text::count(*count),
            )
        })
        .collect();
    let mut body = svg::bars("Dead letters by reason", &rows);
    let sent: Vec<String> = outcome
        .dirt()
        .map(|(kind, count)| format!("{} {}", text::count(count), kind.name().replace('_', " ")))
        .collect();
    if !sent.is_empty() {
        let _ = write!(body, "<p class=\"legend\">sent: {}</p>", sent.join(", "));
    }
    section(
        page,
        "",
        "Dead letters by reason",
        "refused events, kept sealed, with place and reason",
        &body,
    );
}

fn workers(page: &mut String, outcome: &Outcome) {
    let mut body = "<table><tr><th>process<th class=\"n\">CPU<th class=\"n\">events per CPU second<th class=\"n\">peak memory</tr>".to_owned();
    for (name, usage) in &outcome.usage {
        let cpu = usage.cpu.as_secs_f64();
        let done = match *name {
            "ingest" | "broker" => outcome.raw,
            "sink" => outcome.landed.rows,
            "trainer" => outcome.learned,
            _ => outcome.scored,
        };
        let _ = write!(
            body,
            "<tr><td>{name}<td class=\"n\">{cpu:.2} s<td class=\"n\">{}<td class=\"n\">{}</tr>",
            if 0.0 < cpu {
                text::count((done as f64 / cpu) as u64)
            } else {
                "–".to_owned()
            },
            text::bytes(usage.peak_rss_bytes),
        );
    }
    body.push_str("</table>");
    section(
        page,
        "",
        "Processes",
        "what each has used, start included",
        &body,
    );
}

fn drift(page: &mut String, outcome: &Outcome) {
    const SHOWN: usize = 12;
    if outcome.drift.is_empty() {
        return;
    }
    let rows: Vec<_> = outcome
        .drift
        .iter()
        .take(SHOWN)
        .map(|one| {
            (
                one.feature.clone(),
                one.psi,
                format!("{:.3} (noise {:.3})", one.psi, one.floor),
            )
        })
        .collect();
    let says = "population stability index of the last window against the first; below its noise it means nothing";
    section(
        page,
        "",
        "Drift",
        says,
        &svg::bars("Drift by feature", &rows),
    );
}

fn sums(page: &mut String, outcome: &Outcome) {
    let mut body =
        "<table><tr><th>sum<th class=\"n\">left<th class=\"n\">right<th></tr>".to_owned();
    for sum in outcome.sums() {
        let (class, word) = if sum.holds() {
            ("good", "holds")
        } else {
            ("bad", "does not hold")
        };
        let _ = write!(
            body,
            "<tr><td>{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"{class}\">{word}</tr>",
            escape(sum.name),
            text::count(sum.left),
            text::count(sum.right),
        );
    }
    body.push_str("</table>");
    section(page, "", "Sums", "counted at both ends", &body);
}

fn next(page: &mut String, steps: &[Step]) {
    let mut body = String::new();
    for step in steps {
        let _ = write!(
            body,
            "<div class=\"step\">{}</div><pre>{}</pre>",
            escape(step.what),
            escape(&step.command)
        );
    }
    section(
        page,
        "wide",
        "What to do next",
        "commands that work as they stand, on what this run left behind",
        &body,
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
    use crate::demo::{Drift, Histogram, Judged, Landed, Quality};
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

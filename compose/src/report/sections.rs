//! The sections of the page, each a plot or a table.

use std::fmt::Write;

use super::svg::{self, Axis, Scale, Series, escape};
use super::{duration, section};
use crate::demo::{Look, Outcome, Step};
use crate::produce::render::civil_from_days;
use crate::text;

/// How good the scores were.
pub(super) fn quality(page: &mut String, outcome: &Outcome) {
    let Some(quality) = &outcome.quality else {
        return;
    };
    let date = |micros: f64| month_and_day(micros as i64);
    let plain = |value: f64| format!("{value:.2}");
    let x = Axis {
        scale: Scale::Time,
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

/// How fast it went.
pub(super) fn speed(page: &mut String, outcome: &Outcome) {
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

/// What was refused, and why.
pub(super) fn refused(page: &mut String, outcome: &Outcome) {
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

/// What processes used.
pub(super) fn workers(page: &mut String, outcome: &Outcome) {
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

/// What has drifted.
pub(super) fn drift(page: &mut String, outcome: &Outcome) {
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

/// Whether the sums come out.
pub(super) fn sums(page: &mut String, outcome: &Outcome) {
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

/// What to do next.
pub(super) fn next(page: &mut String, steps: &[Step]) {
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

/// Writes a date: `Jan` for the first of a month, else `Jan 5`.
fn month_and_day(micros: i64) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_, month, day) = civil_from_days(micros.div_euclid(86_400_000_000));
    let month = MONTHS[(month as usize).clamp(1, 12) - 1];
    if day == 1 {
        month.to_owned()
    } else {
        format!("{month} {day}")
    }
}

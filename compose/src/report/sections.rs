//! The sections of the page, each a plot or a table.

use std::fmt::Write;

use super::svg::{self, Axis, Scale, Series, escape};
use super::{duration, section};
use crate::demo::{Look, Outcome, Step, Window};
use crate::produce::render::civil_from_days;
use crate::text;

const STREAM_TIME: Axis = axis(Scale::Time, None, |micros| month_and_day(micros as i64));
const SECONDS: Axis = axis(Scale::Linear, None, |seconds| format!("{seconds:.1} s"));
const HUNDREDTHS: Axis = axis(Scale::Linear, None, |value| format!("{value:.2}"));
const COUNTS: Axis = axis(Scale::Linear, None, |count| {
    text::count(count.max(0.0) as u64)
});
const SHARES: Axis = axis(Scale::Linear, Some((0.0, 1.0)), svg::percent);
const DURATIONS: Axis = axis(Scale::Log, None, duration);

const fn axis(scale: Scale, range: Option<(f64, f64)>, mark: fn(f64) -> String) -> Axis {
    Axis { scale, range, mark }
}

/// How good the scores were.
pub(super) fn quality(page: &mut String, outcome: &Outcome) {
    let Some(quality) = &outcome.quality else {
        return;
    };
    let over_time = |value: &dyn Fn(&Window) -> Option<f64>| {
        let windows = quality.windows.iter();
        let points = windows.filter_map(|window| Some((window.micros as f64, value(window)?)));
        points.collect::<Vec<_>>()
    };
    let losses = [
        series(
            "served scores",
            "s0",
            over_time(&|window| Some(window.log_loss)),
        ),
        series(
            "always the base rate",
            "muted",
            over_time(&|window| Some(window.base_log_loss)),
        ),
    ];
    let says = "nats, of the scores as served, by stretches of stream time";
    let plot = svg::lines(
        "Log loss over stream time",
        &STREAM_TIME,
        &HUNDREDTHS,
        &losses,
    );
    section(page, "", "Log loss", says, &plot);
    let areas = over_time(&|window| window.auc);
    let ends = [areas.first(), areas.last()].into_iter().flatten();
    let base = ends.map(|(micros, _)| (*micros, 0.5)).collect();
    let areas = [
        series("served scores", "s0", areas),
        series("always the base rate", "muted", base),
    ];
    let says = "area under the ROC curve, by stretches of stream time";
    let plot = svg::lines("AUC over stream time", &STREAM_TIME, &HUNDREDTHS, &areas);
    section(page, "", "AUC", says, &plot);
    let bins = quality.calibration.iter();
    let points: Vec<_> = bins
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
    let of = |value: fn(&Look) -> u64| {
        let looks = outcome.looks.iter();
        looks
            .map(|look| (look.seconds, value(look) as f64))
            .collect::<Vec<_>>()
    };
    let counts = [
        series("raw", "muted", of(|look| look.raw)),
        series("clean", "s2", of(|look| look.clean)),
        series("scored", "s0", of(|look| look.scored)),
        series("learned", "s1", of(|look| look.learned)),
        series("landed", "s3", of(|look| look.landed)),
    ];
    let says =
        "events so far, by seconds since the start; workers drain and land the rest at the end";
    let plot = svg::lines("Throughput", &SECONDS, &COUNTS, &counts);
    section(page, "", "Throughput", says, &plot);
    let lately = |value: fn(&Look) -> Option<f64>| {
        let looks = outcome.looks.iter();
        looks
            .filter_map(|look| Some((look.seconds, value(look)?)))
            .collect::<Vec<_>>()
    };
    let latencies = [
        series("median", "s0", lately(|look| look.p50_ms)),
        series("99th percentile", "s1", lately(|look| look.p99_ms)),
    ];
    let says = "from the acknowledgement of the raw event to its score, by seconds since the start";
    let plot = svg::lines("Latency over time", &SECONDS, &DURATIONS, &latencies);
    section(page, "", "Latency", says, &plot);
    let all = [series(
        "share of scores that came within",
        "s0",
        outcome.latency.cumulative(),
    )];
    let says = "share of all scores (up) that came within a time (across)";
    let plot = svg::lines("Latency, cumulative", &DURATIONS, &SHARES, &all);
    section(page, "", "Latency, all scores", says, &plot);
}

fn series<'a>(name: &'a str, class: &'a str, points: Vec<(f64, f64)>) -> Series<'a> {
    Series {
        name,
        class,
        points,
    }
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

//! Writes an evaluation as one HTML page of curves that needs nothing else.

use std::fmt::Write;

use super::{Evaluation, Figures, Labels};
use crate::report::svg::{self, Axis, Scale, Series, escape};
use crate::report::{STYLE, section};
use crate::text;

/// Classes of lines in the style sheet.
const CLASSES: [&str; 5] = ["s0", "s1", "s2", "s3", "s4"];

/// How examples are counted across.
const EXAMPLES: Axis = Axis {
    scale: Scale::Linear,
    range: None,
    mark: |count| text::count(count as u64),
};

/// How losses are marked.
const LOSS: Axis = Axis {
    scale: Scale::Linear,
    range: None,
    mark: |loss| format!("{loss:.2}"),
};

/// Returns the page about a file.
pub fn html(file: &str, evaluation: &Evaluation) -> String {
    let mut page = String::with_capacity(64 << 10);
    let title = escape(file);
    let labels = match evaluation.labels {
        Labels::AtOnce => "each label is learned right after its event",
        Labels::AtArrival => "each label is learned when it became known",
    };
    let counts = &evaluation.counts;
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Thalweg: {title}</title><style>{STYLE}</style></head><body><main>\
         <h1>How well {title} can be predicted</h1>\
         <p class=\"lead\">{} rows, of which {} passed the contract's rules; every event is predicted first, and {labels}. \
         One pass, no tuning.</p><div class=\"plots\">",
        text::count(counts.events),
        text::count(counts.clean),
    );
    curve(&mut page, evaluation);
    if let Some(quality) = evaluation
        .learners
        .first()
        .and_then(|own| own.quality.as_ref())
    {
        let groups = quality.calibration.iter();
        let points: Vec<_> = groups
            .map(|group| (group.predicted, group.observed, group.labels))
            .collect();
        let says = "predicted (across) against observed (up); on the line, 30 % means 30 %";
        section(
            &mut page,
            "",
            "Calibration",
            says,
            &svg::calibration("Calibration", &points),
        );
    }
    table(&mut page, evaluation);
    page.push_str("</div></main></body></html>\n");
    page
}

fn curve(page: &mut String, evaluation: &Evaluation) {
    let Some(own) = evaluation.learners.first() else {
        return;
    };
    let points = |figures: &Figures| {
        let points = figures.curve.iter();
        points
            .map(|point| (point.examples as f64, point.loss))
            .collect()
    };
    let learners = evaluation.learners.iter().zip(CLASSES);
    let mut series: Vec<Series<'_>> = learners
        .map(|(figures, class)| Series {
            name: &figures.name,
            class,
            points: points(figures),
        })
        .collect();
    let base = own.curve.iter();
    series.push(Series {
        name: "without a model",
        class: "muted",
        points: base
            .map(|point| (point.examples as f64, point.base))
            .collect(),
    });
    let (title, says) = match own.errors {
        None => (
            "Log loss",
            "nats, of each stretch of examples, predicted before they were learned",
        ),
        Some(_) => (
            "Error",
            "root of the mean squared error of each stretch, in the label's unit",
        ),
    };
    section(
        page,
        "",
        title,
        says,
        &svg::lines(title, &EXAMPLES, &LOSS, &series),
    );
}

fn table(page: &mut String, evaluation: &Evaluation) {
    let mut body = String::from("<table><tr><th>learner</th>");
    for name in super::HEADINGS {
        let _ = write!(body, "<th class=\"n\">{name}</th>");
    }
    body.push_str("</tr>");
    for figures in &evaluation.learners {
        let _ = write!(body, "<tr><td>{}</td>", escape(&figures.name));
        for cell in figures.cells() {
            let _ = write!(body, "<td class=\"n\">{cell}</td>");
        }
        body.push_str("</tr>");
    }
    body.push_str("</table>");
    let says = "CPU time is that of predicting and learning alone, without reading the file";
    section(page, "wide", "Learners", says, &body);
}

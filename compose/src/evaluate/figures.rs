//! Figures as people and programs read them.

use learn::metrics::{self, ClassSummary, ErrorSummary, Summary};
use serde_json::{Map, Value};

use super::{Figures, Placed};
use crate::text;

/// What [`Figures::cells`] are called.
pub const HEADINGS: [&str; 8] = [
    "examples",
    "log loss",
    "AUC",
    "accuracy",
    "RMSE",
    "MAE",
    "examples per CPU second",
    "model",
];

/// What [`Placed::cells`] are called.
pub const PLACE_HEADINGS: [&str; 7] = [
    "slice", "window", "examples", "log loss", "AUC", "accuracy", "RMSE",
];

fn figure(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.4}"))
}

impl Figures {
    /// Returns the figures as people read them, in the order of [`HEADINGS`].
    pub fn cells(&self) -> [String; HEADINGS.len()] {
        let (quality, errors) = (self.quality.as_ref(), self.errors.as_ref());
        let classes = self.classes.as_ref();
        let auc = quality.and_then(|quality| quality.auc.as_ref());
        let loss = quality.map(|quality| quality.log_loss);
        let accuracy = quality.map(|quality| quality.accuracy);
        [
            text::count(self.examples),
            figure(loss.or(classes.map(|classes| classes.log_loss))),
            figure(auc.map(|auc| auc.area)),
            figure(accuracy.or(classes.map(|classes| classes.accuracy))),
            figure(errors.map(|errors| errors.rmse)),
            figure(errors.map(|errors| errors.mae)),
            text::count(self.examples_per_cpu_second as u64),
            text::bytes(self.model_bytes as u64),
        ]
    }

    /// Returns the figures for programs; those that do not fit the label are left out.
    pub fn json(&self) -> Map<String, Value> {
        let mut json = Map::new();
        json.insert("learner".to_owned(), self.name.as_str().into());
        json.insert("examples".to_owned(), self.examples.into());
        if let Some(quality) = &self.quality {
            probabilities(quality, &mut json);
        }
        if let Some(errors) = &self.errors {
            numbers(errors, &mut json);
        }
        if let Some(summary) = &self.classes {
            classes(summary, &mut json);
        }
        let speed = self.examples_per_cpu_second;
        json.insert("cpu_seconds".to_owned(), self.cpu_seconds.into());
        json.insert("examples_per_cpu_second".to_owned(), speed.into());
        json.insert("model_bytes".to_owned(), self.model_bytes.into());
        let parts = |slices: bool| -> Vec<Value> {
            let parts = self.places.iter();
            let parts = parts.filter(|placed| placed.slice.is_some() == slices);
            parts.map(Placed::json).collect()
        };
        json.insert("windows".to_owned(), parts(false).into());
        let slices = parts(true);
        if !slices.is_empty() {
            json.insert("slices".to_owned(), slices.into());
        }
        json
    }
}

impl Placed {
    /// Returns the figures as people read them, in the order of [`PLACE_HEADINGS`].
    pub fn cells(&self) -> [String; PLACE_HEADINGS.len()] {
        let slice = self.slice.as_ref();
        let name = slice.map_or(String::new(), |(field, value)| format!("{field} = {value}"));
        let window = self.window.to_owned();
        match &self.figures {
            metrics::Figures::Probabilities(quality) => [
                name,
                window,
                text::count(quality.labels),
                figure(Some(quality.log_loss)),
                figure(quality.auc.map(|auc| auc.area)),
                figure(Some(quality.accuracy)),
                figure(None),
            ],
            metrics::Figures::Numbers(errors) => [
                name,
                window,
                text::count(errors.labels),
                figure(None),
                figure(None),
                figure(None),
                figure(Some(errors.rmse)),
            ],
            metrics::Figures::Classes(classes) => [
                name,
                window,
                text::count(classes.labels),
                figure(Some(classes.log_loss)),
                figure(None),
                figure(Some(classes.accuracy)),
                figure(None),
            ],
        }
    }

    fn json(&self) -> Value {
        let mut json = Map::new();
        if let Some((field, value)) = &self.slice {
            json.insert("slice".to_owned(), field.as_str().into());
            json.insert("value".to_owned(), value.as_str().into());
        }
        json.insert("window".to_owned(), self.window.into());
        let examples = match &self.figures {
            metrics::Figures::Probabilities(quality) => {
                probabilities(quality, &mut json);
                quality.labels
            }
            metrics::Figures::Numbers(errors) => {
                numbers(errors, &mut json);
                errors.labels
            }
            metrics::Figures::Classes(summary) => {
                classes(summary, &mut json);
                summary.labels
            }
        };
        json.insert("examples".to_owned(), examples.into());
        json.into()
    }
}

fn probabilities(quality: &Summary, json: &mut Map<String, Value>) {
    let split = quality.brier_split;
    let figures = [
        ("log_loss", Some(quality.log_loss)),
        ("base_log_loss", Some(quality.base_log_loss)),
        ("auc", quality.auc.map(|auc| auc.area)),
        ("auc_error_max", quality.auc.map(|auc| auc.error_max)),
        ("pr_auc", quality.pr_auc.map(|auc| auc.area)),
        ("pr_auc_error_max", quality.pr_auc.map(|auc| auc.error_max)),
        ("brier", Some(quality.brier)),
        ("brier_reliability", Some(split.reliability)),
        ("brier_resolution", Some(split.resolution)),
        ("brier_uncertainty", Some(split.uncertainty)),
        ("ece", Some(quality.ece)),
        ("accuracy", Some(quality.accuracy)),
        ("precision", quality.precision),
        ("recall", quality.recall),
    ];
    put(&figures, json);
}

fn numbers(errors: &ErrorSummary, json: &mut Map<String, Value>) {
    let figures = [
        ("rmse", errors.rmse),
        ("base_rmse", errors.base_rmse),
        ("mae", errors.mae),
        ("bias", errors.bias),
        ("quantile_loss", errors.quantile_loss),
    ];
    put(&figures.map(|(name, figure)| (name, Some(figure))), json);
}

fn classes(classes: &ClassSummary, json: &mut Map<String, Value>) {
    let figures = [
        ("log_loss", classes.log_loss),
        ("base_log_loss", classes.base_log_loss),
        ("accuracy", classes.accuracy),
    ];
    put(&figures.map(|(name, figure)| (name, Some(figure))), json);
}

fn put(figures: &[(&str, Option<f64>)], json: &mut Map<String, Value>) {
    for (name, figure) in figures {
        json.insert((*name).to_owned(), (*figure).into());
    }
}

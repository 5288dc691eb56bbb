//! Figures from sums.

use super::quality::{Bin, Quality};

/// Most groups of the table of calibration.
const GROUPS_MAX: u64 = 20;

/// How good a set of predictions was.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Labels.
    pub labels: u64,
    /// Labels that are yes.
    pub positives: u64,
    /// Mean log loss, in nats.
    pub log_loss: f64,
    /// Mean log loss of always saying the base rate so far, in nats.
    pub base_log_loss: f64,
    /// Mean squared distance from the outcome.
    pub brier: f64,
    /// Area under the ROC curve; `None` if all outcomes are the same.
    pub auc: Option<Auc>,
    /// Share of decisions that were right.
    pub accuracy: f64,
    /// Share of the decisions for yes that were right; `None` if there are none.
    pub precision: Option<f64>,
    /// Share of yes that was decided for; `None` if there are none.
    pub recall: Option<f64>,
    /// Expected calibration error: mean distance of prediction from rate over `calibration`.
    pub ece: f64,
    /// Predictions and what became of them, in groups of about the same size, by prediction.
    pub calibration: Vec<CalibrationGroup>,
}

/// Area under the ROC curve, computed on binned predictions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Auc {
    /// The area.
    pub area: f64,
    /// The true area lies no further away than this.
    pub error_max: f64,
}

/// Neighbouring predictions, and what became of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CalibrationGroup {
    /// Labels.
    pub labels: u64,
    /// Mean of the predictions.
    pub predicted: f64,
    /// Share that was yes.
    pub observed: f64,
}

pub(super) fn summarise(quality: &Quality) -> Option<Summary> {
    let labels = quality.labels();
    if labels == 0 {
        return None;
    }
    let mean = |sum: f64| sum / labels as f64;
    let share = |part: u64, whole: u64| (whole != 0).then(|| part as f64 / whole as f64);
    let [[right_no, missed], [false_yes, right_yes]] = quality.decided;
    let calibration = calibrate(&quality.bins, labels);
    let errors = calibration
        .iter()
        .map(|group| group.labels as f64 * (group.predicted - group.observed).abs());
    Some(Summary {
        labels,
        positives: missed + right_yes,
        log_loss: mean(quality.log_loss),
        base_log_loss: mean(quality.base_log_loss),
        brier: mean(quality.squares),
        auc: area(&quality.bins),
        accuracy: mean((right_no + right_yes) as f64),
        precision: share(right_yes, false_yes + right_yes),
        recall: share(right_yes, missed + right_yes),
        ece: mean(errors.sum()),
        calibration,
    })
}

/// Counts pairs of a yes and a no: won where the yes was predicted higher, half won in the same bin, where
/// each pair may be wrong by half.
fn area(bins: &[Bin]) -> Option<Auc> {
    let (mut below, mut yes, mut won, mut tied) = (0.0, 0.0, 0.0, 0.0);
    for bin in bins {
        let [no_here, yes_here] = bin.labels.map(|count| count as f64);
        won += yes_here * below;
        tied += yes_here * no_here;
        below += no_here;
        yes += yes_here;
    }
    let pairs = below * yes;
    (pairs != 0.0).then(|| Auc {
        area: (won + tied / 2.0) / pairs,
        error_max: tied / 2.0 / pairs,
    })
}

fn calibrate(bins: &[Bin], labels: u64) -> Vec<CalibrationGroup> {
    let wanted = labels.div_ceil(GROUPS_MAX);
    let mut groups = Vec::new();
    let mut open = Bin::default();
    for (at, bin) in bins.iter().enumerate() {
        open.labels[0] += bin.labels[0];
        open.labels[1] += bin.labels[1];
        open.sum += bin.sum;
        let [no, yes] = open.labels;
        let last = at + 1 == bins.len();
        if wanted <= no + yes || (last && no + yes != 0) {
            let labels = no + yes;
            let mean = |sum: f64| sum / labels as f64;
            groups.push(CalibrationGroup {
                labels,
                predicted: mean(open.sum),
                observed: mean(yes as f64),
            });
            open = Bin::default();
        }
    }
    groups
}

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
    /// What it consists of.
    pub brier_split: BrierSplit,
    /// Area under the ROC curve; `None` if all outcomes are the same.
    pub auc: Option<Auc>,
    /// Area under the curve of precision over recall; `None` if nothing was yes.
    pub pr_auc: Option<Auc>,
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

/// What the Brier score consists of, over `calibration`: reliability - resolution + uncertainty, and what predictions
/// and outcomes vary within a group.
///
/// # Source
/// Murphy 1973, "A New Vector Partition of the Probability Score".
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BrierSplit {
    /// Mean squared distance of prediction from rate: less is better.
    pub reliability: f64,
    /// Mean squared distance of each group's rate from the whole's: more is better.
    pub resolution: f64,
    /// Variance of the outcomes: no model changes it.
    pub uncertainty: f64,
}

/// Area under a curve, computed on binned predictions.
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
    let positives = missed + right_yes;
    Some(Summary {
        labels,
        positives,
        log_loss: mean(quality.log_loss),
        base_log_loss: mean(quality.base_log_loss),
        brier: mean(quality.squares),
        brier_split: split(&calibration, labels, positives),
        auc: area(&quality.bins),
        pr_auc: precision_area(&quality.bins, positives),
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

/// Follows precision over recall from the highest prediction down: in each bin once with its no first, and once with
/// its yes first; the true area lies between. Between two of a kind the curve is as counts make it, not straight.
///
/// # Source
/// Davis and Goadrich 2006, "The Relationship Between Precision-Recall and ROC Curves".
fn precision_area(bins: &[Bin], positives: u64) -> Option<Auc> {
    let (mut yes, mut no, mut least, mut most) = (0.0, 0.0, 0.0, 0.0);
    for bin in bins.iter().rev() {
        let [no_here, yes_here] = bin.labels.map(|count| count as f64);
        if 0.0 < yes_here {
            // The integral of (yes + x) / (yes + x + no) over the bin's yes.
            let area = |no: f64| match no {
                0.0 => yes_here,
                no => yes_here - no * libm::log1p(yes_here / (yes + no)),
            };
            least += area(no + no_here);
            most += area(no);
        }
        yes += yes_here;
        no += no_here;
    }
    (positives != 0).then(|| Auc {
        area: (least + most) / 2.0 / positives as f64,
        error_max: (most - least) / 2.0 / positives as f64,
    })
}

fn split(groups: &[CalibrationGroup], labels: u64, positives: u64) -> BrierSplit {
    let rate = positives as f64 / labels as f64;
    let mean = |of: &dyn Fn(&CalibrationGroup) -> f64| {
        let parts = groups.iter().map(|group| group.labels as f64 * of(group));
        parts.sum::<f64>() / labels as f64
    };
    BrierSplit {
        reliability: mean(&|group| (group.predicted - group.observed).powi(2)),
        resolution: mean(&|group| (group.observed - rate).powi(2)),
        uncertainty: rate * (1.0 - rate),
    }
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

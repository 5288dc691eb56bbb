//! linfa's traits: learning and predicting micro-batches.

use linfa::DatasetBase;
use linfa::traits::{FitWith, Predict, PredictInplace};

use super::linear::View;
use super::{CheckedParams, Label, Learner, NonFinite, ParamsError, Plan, TestedClass, each};
use crate::features::{Layout, Rows};

/// A micro-batch that could not be learned.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// A parameter is impossible.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// A prediction is no number.
    #[error(transparent)]
    NonFinite(#[from] NonFinite),
    /// The rows are not those of this learner.
    #[error("rows have the layout {found:?}, and the learner has {expected:?}")]
    Layout {
        /// The learner's.
        expected: Layout,
        /// That of the rows.
        found: Layout,
    },
    /// Not one label per row.
    #[error("{rows} rows have {labels} labels")]
    Labels {
        /// How many rows.
        rows: usize,
        /// How many labels.
        labels: usize,
    },
    /// linfa refuses the data.
    #[error(transparent)]
    Linfa(#[from] linfa::Error),
}

/// Learns a micro-batch, each row after it was predicted ([`Learner::tested`]), exactly as row by row.
///
/// Without a learner one is made; the parameters are those of the fit. A learner does not outlive an error: what
/// was learned before it is in the last snapshot.
impl<'a> FitWith<'a, Rows, Vec<Label>, LearnError> for CheckedParams {
    type ObjectIn = Option<Learner>;
    type ObjectOut = Learner;

    fn fit_with(
        &self,
        learner: Option<Learner>,
        dataset: &'a DatasetBase<Rows, Vec<Label>>,
    ) -> Result<Learner, LearnError> {
        let (rows, labels) = (&dataset.records, &dataset.targets);
        let mut learner = learner.unwrap_or_else(|| Learner::new(*self, rows.layout()));
        let (expected, found) = (learner.layout(), rows.layout());
        if expected != found {
            return Err(LearnError::Layout { expected, found });
        }
        if rows.len() != labels.len() {
            return Err(LearnError::Labels {
                rows: rows.len(),
                labels: labels.len(),
            });
        }
        let Learner {
            model,
            tested,
            likeliest,
            ..
        } = &mut learner;
        tested.clear();
        likeliest.clear();
        let mut note = |found: TestedClass| {
            tested.push(found.predicted);
            likeliest.push(found.likeliest);
        };
        match self.classes() {
            Some(classes) => each!(model,
                linear => linear.learn_classes(rows, labels, &self.rates(), classes, &mut note),
                blend => blend.learn_classes(rows, labels, classes, &mut note))?,
            None => each!(model,
                linear => linear.learn_all(rows, labels, &self.rates(), tested),
                blend => blend.learn_all(rows, labels, tested))?,
        }
        Ok(learner)
    }
}

impl PredictInplace<Rows, Vec<f64>> for Learner {
    fn predict_inplace<'a>(&'a self, rows: &'a Rows, out: &mut Vec<f64>) {
        out.clear();
        if self.params.classes().is_some() {
            out.extend(rows.iter().map(|row| self.predict_row(row)));
            return;
        }
        each!(&self.model,
        linear => linear.each_row(rows, |row| out.push(linear.target.outward(linear.logit(row)))),
        blend => {
            let mut plan = Plan::default();
            let predict = |row| blend.target.outward(blend.score(blend.opinions(&mut plan, row)));
            out.extend(rows.iter().map(predict));
        });
    }

    fn default_target(&self, rows: &Rows) -> Vec<f64> {
        Vec::with_capacity(rows.len())
    }
}

impl Predict<&Rows, Vec<f64>> for Learner {
    fn predict(&self, rows: &Rows) -> Vec<f64> {
        let mut out = self.default_target(rows);
        self.predict_inplace(rows, &mut out);
        out
    }
}

//! How good a model's predictions were, in the figures that fit its labels, and their bytes in an update.
//!
//! Wire version 1 knew yes and no alone, and has kept its bytes; the others come with version 2, which says first what it
//! is: a digest covers that too.

use serde::Serialize;

use super::Reader;

/// First bytes of the body of wire version 2; that of version 1 begins with a model's version, which is never so large.
pub(super) const BODY_2: [u8; 8] = *b"TWMU\x02\0\0\0";

const NUMBERS: u8 = 1;
const CLASSES: u8 = 2;

/// Prequential (test, then learn) figures of all labels so far, by what labels are.
///
/// Trainers that knew figures of yes and no alone said of other labels that there were none of these.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Prequential {
    /// Labels are yes or no.
    YesOrNo {
        /// Labels learned.
        labels: u64,
        /// Mean log loss, in nats, before learning each.
        log_loss: f64,
        /// Mean log loss of always predicting the base rate so far, in nats.
        base_log_loss: f64,
        /// Area under the ROC curve.
        auc: f64,
    },
    /// Labels are numbers; figures in their unit.
    Numbers {
        /// Labels learned.
        labels: u64,
        /// Root of the mean squared error, before learning each.
        rmse: f64,
        /// The same of always predicting the mean so far.
        base_rmse: f64,
        /// Mean absolute error.
        mae: f64,
        /// Mean quantile loss, of the contract's quantile: half of `mae` if it names none.
        quantile_loss: f64,
    },
    /// Labels are classes.
    Classes {
        /// Labels learned.
        labels: u64,
        /// Mean log loss, in nats, before learning each.
        log_loss: f64,
        /// The same of always predicting how often each class came so far.
        base_log_loss: f64,
        /// Share of events whose likeliest class came.
        accuracy: f64,
    },
}

impl Default for Prequential {
    /// Nothing is known, as wire version 1 says it.
    fn default() -> Prequential {
        Prequential::YesOrNo {
            labels: 0,
            log_loss: 0.0,
            base_log_loss: 0.0,
            auc: 0.0,
        }
    }
}

impl Prequential {
    /// Returns of how many labels the figures are.
    pub fn labels(&self) -> u64 {
        match *self {
            Prequential::YesOrNo { labels, .. }
            | Prequential::Numbers { labels, .. }
            | Prequential::Classes { labels, .. } => labels,
        }
    }

    /// Says whether wire version 1 can say them.
    pub fn is_first_wire(&self) -> bool {
        matches!(self, Prequential::YesOrNo { .. })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let (kind, labels, figures): (Option<u8>, u64, &[f64]) = match *self {
            Prequential::YesOrNo {
                labels,
                log_loss,
                base_log_loss,
                auc,
            } => (None, labels, &[log_loss, base_log_loss, auc]),
            Prequential::Numbers {
                labels,
                rmse,
                base_rmse,
                mae,
                quantile_loss,
            } => (
                Some(NUMBERS),
                labels,
                &[rmse, base_rmse, mae, quantile_loss],
            ),
            Prequential::Classes {
                labels,
                log_loss,
                base_log_loss,
                accuracy,
            } => (Some(CLASSES), labels, &[log_loss, base_log_loss, accuracy]),
        };
        out.extend(kind);
        out.extend_from_slice(&labels.to_le_bytes());
        out.extend(figures.iter().flat_map(|figure| figure.to_le_bytes()));
    }

    pub(super) fn read_first_wire(reader: &mut Reader<'_>) -> Option<Prequential> {
        Some(Prequential::YesOrNo {
            labels: reader.u64()?,
            log_loss: reader.f64()?,
            base_log_loss: reader.f64()?,
            auc: reader.f64()?,
        })
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Prequential> {
        match reader.take::<1>()? {
            [NUMBERS] => Some(Prequential::Numbers {
                labels: reader.u64()?,
                rmse: reader.f64()?,
                base_rmse: reader.f64()?,
                mae: reader.f64()?,
                quantile_loss: reader.f64()?,
            }),
            [CLASSES] => Some(Prequential::Classes {
                labels: reader.u64()?,
                log_loss: reader.f64()?,
                base_log_loss: reader.f64()?,
                accuracy: reader.f64()?,
            }),
            _ => None,
        }
    }
}

//! The gauges of quality: of all examples, and of slices.

use learn::metrics::{ErrorSummary, Figures, Summary};
use opentelemetry::KeyValue;
use telemetry::{Gauge, Instruments, names};

/// Quality of all examples, by window.
pub(crate) struct Quality {
    log_loss: Gauge<f64>,
    base_log_loss: Gauge<f64>,
    brier: Gauge<f64>,
    reliability: Gauge<f64>,
    resolution: Gauge<f64>,
    auc: Gauge<f64>,
    auc_error: Gauge<f64>,
    pr_auc: Gauge<f64>,
    pr_auc_error: Gauge<f64>,
    calibration: Gauge<f64>,
    accuracy: Gauge<f64>,
    precision: Gauge<f64>,
    recall: Gauge<f64>,
    rmse: Gauge<f64>,
    base_rmse: Gauge<f64>,
    mae: Gauge<f64>,
    quantile_loss: Gauge<f64>,
}

/// Quality of slices, by window, slice and value.
pub(crate) struct Slices {
    labels: Gauge<f64>,
    log_loss: Gauge<f64>,
    base_log_loss: Gauge<f64>,
    auc: Gauge<f64>,
    calibration: Gauge<f64>,
    accuracy: Gauge<f64>,
    rmse: Gauge<f64>,
    mae: Gauge<f64>,
}

fn record(figures: &[(&Gauge<f64>, Option<f64>)], attributes: &[KeyValue]) {
    for (gauge, figure) in figures {
        if let Some(figure) = figure {
            gauge.record(*figure, attributes);
        }
    }
}

impl Quality {
    pub(crate) fn new(instruments: &Instruments) -> Quality {
        Quality {
            log_loss: instruments.gauge(names::QUALITY_LOG_LOSS),
            base_log_loss: instruments.gauge(names::QUALITY_BASE_LOG_LOSS),
            brier: instruments.gauge(names::QUALITY_BRIER),
            reliability: instruments.gauge(names::QUALITY_RELIABILITY),
            resolution: instruments.gauge(names::QUALITY_RESOLUTION),
            auc: instruments.gauge(names::QUALITY_AUC),
            auc_error: instruments.gauge(names::QUALITY_AUC_ERROR),
            pr_auc: instruments.gauge(names::QUALITY_PR_AUC),
            pr_auc_error: instruments.gauge(names::QUALITY_PR_AUC_ERROR),
            calibration: instruments.gauge(names::QUALITY_CALIBRATION),
            accuracy: instruments.gauge(names::QUALITY_ACCURACY),
            precision: instruments.gauge(names::QUALITY_PRECISION),
            recall: instruments.gauge(names::QUALITY_RECALL),
            rmse: instruments.gauge(names::QUALITY_RMSE),
            base_rmse: instruments.gauge(names::QUALITY_BASE_RMSE),
            mae: instruments.gauge(names::QUALITY_MAE),
            quantile_loss: instruments.gauge(names::QUALITY_QUANTILE_LOSS),
        }
    }

    pub(crate) fn record(&self, window: &'static str, figures: &Figures) {
        match figures {
            Figures::Probabilities(summary) => self.probabilities(window, summary),
            Figures::Numbers(summary) => self.numbers(window, summary),
            Figures::Classes(summary) => {
                let figures = [
                    (&self.log_loss, Some(summary.log_loss)),
                    (&self.base_log_loss, Some(summary.base_log_loss)),
                    (&self.accuracy, Some(summary.accuracy)),
                ];
                record(&figures, &[KeyValue::new("window", window)]);
            }
        }
    }

    pub(crate) fn probabilities(&self, window: &'static str, summary: &Summary) {
        let (auc, pr_auc) = (summary.auc, summary.pr_auc);
        let figures = [
            (&self.log_loss, Some(summary.log_loss)),
            (&self.base_log_loss, Some(summary.base_log_loss)),
            (&self.brier, Some(summary.brier)),
            (&self.reliability, Some(summary.brier_split.reliability)),
            (&self.resolution, Some(summary.brier_split.resolution)),
            (&self.auc, auc.map(|auc| auc.area)),
            (&self.auc_error, auc.map(|auc| auc.error_max)),
            (&self.pr_auc, pr_auc.map(|auc| auc.area)),
            (&self.pr_auc_error, pr_auc.map(|auc| auc.error_max)),
            (&self.calibration, Some(summary.ece)),
            (&self.accuracy, Some(summary.accuracy)),
            (&self.precision, summary.precision),
            (&self.recall, summary.recall),
        ];
        record(&figures, &[KeyValue::new("window", window)]);
    }

    fn numbers(&self, window: &'static str, summary: &ErrorSummary) {
        let figures = [
            (&self.rmse, Some(summary.rmse)),
            (&self.base_rmse, Some(summary.base_rmse)),
            (&self.mae, Some(summary.mae)),
            (&self.quantile_loss, Some(summary.quantile_loss)),
        ];
        record(&figures, &[KeyValue::new("window", window)]);
    }
}

impl Slices {
    pub(crate) fn new(instruments: &Instruments) -> Slices {
        Slices {
            labels: instruments.gauge(names::SLICE_LABELS),
            log_loss: instruments.gauge(names::SLICE_LOG_LOSS),
            base_log_loss: instruments.gauge(names::SLICE_BASE_LOG_LOSS),
            auc: instruments.gauge(names::SLICE_AUC),
            calibration: instruments.gauge(names::SLICE_CALIBRATION),
            accuracy: instruments.gauge(names::SLICE_ACCURACY),
            rmse: instruments.gauge(names::SLICE_RMSE),
            mae: instruments.gauge(names::SLICE_MAE),
        }
    }

    /// Records figures of a field's value; a board has few of both.
    pub(crate) fn record(
        &self,
        (field, value): (&str, &str),
        window: &'static str,
        figures: &Figures,
    ) {
        let attributes = [
            KeyValue::new("window", window),
            KeyValue::new("slice", field.to_owned()),
            KeyValue::new("value", value.to_owned()),
        ];
        match figures {
            Figures::Probabilities(summary) => record(
                &[
                    (&self.labels, Some(summary.labels as f64)),
                    (&self.log_loss, Some(summary.log_loss)),
                    (&self.base_log_loss, Some(summary.base_log_loss)),
                    (&self.auc, summary.auc.map(|auc| auc.area)),
                    (&self.calibration, Some(summary.ece)),
                    (&self.accuracy, Some(summary.accuracy)),
                ],
                &attributes,
            ),
            Figures::Numbers(summary) => record(
                &[
                    (&self.labels, Some(summary.labels as f64)),
                    (&self.rmse, Some(summary.rmse)),
                    (&self.mae, Some(summary.mae)),
                ],
                &attributes,
            ),
            Figures::Classes(summary) => record(
                &[
                    (&self.labels, Some(summary.labels as f64)),
                    (&self.log_loss, Some(summary.log_loss)),
                    (&self.base_log_loss, Some(summary.base_log_loss)),
                    (&self.accuracy, Some(summary.accuracy)),
                ],
                &attributes,
            ),
        }
    }
}

//! Every signal: name, unit, description. Names follow OpenTelemetry's semantic conventions; Prometheus shows
//! them with `_` for `.`, and counters with `_total`.

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Signal {
    /// Name.
    pub name: &'static str,
    /// Unit (UCUM).
    pub unit: &'static str,
    /// What it says.
    pub description: &'static str,
}

macro_rules! signals {
    ($($constant:ident = $name:literal, $unit:literal, $description:literal;)*) => {
        $(
            #[doc = $description]
            pub const $constant: Signal = Signal { name: $name, unit: $unit, description: $description };
        )*

        /// Every metric that Thalweg emits.
        pub const ALL: &[Signal] = &[$($constant),*];
    };
}

signals! {
    WORKER_RECORDS = "thalweg.worker.records", "{record}", "Kafka records that the stage has handled, by topic.";
    WORKER_LAG = "thalweg.worker.lag", "{record}", "Records that the stage has yet to handle, by topic and partition.";
    WORKER_COMMITTED = "thalweg.worker.committed", "{record}", "Next offset that is committed, by topic and partition.";
    WORKER_REBALANCES = "thalweg.worker.rebalances", "{rebalance}", "Assignments and revocations.";
    WORKER_HANDLE = "thalweg.worker.handle.duration", "s", "Time that the stage takes for one batch.";
    PROCESS_CPU = "process.cpu.time", "s", "CPU seconds of the process, user and system.";
    PROCESS_MEMORY = "process.memory.usage", "By", "Resident memory of the process.";
    PROCESS_MEMORY_PEAK = "process.memory.peak", "By", "Highest resident memory of the process so far.";

    INGEST_RAW = "thalweg.ingest.raw", "{event}", "Raw records decided.";
    INGEST_CLEAN = "thalweg.ingest.clean", "{event}", "Events found clean.";
    INGEST_DEAD = "thalweg.ingest.dead", "{event}", "Events refused, by reason.";
    INGEST_MISSING = "thalweg.ingest.field.missing", "{value}", "Clean events without a value, by field.";
    INGEST_INVALID = "thalweg.ingest.field.invalid", "{value}", "Values that broke a rule, by field.";
    INGEST_UNKNOWN = "thalweg.ingest.field.unknown", "{value}", "Values of fields that the contract does not name.";
    INGEST_SEALED = "thalweg.ingest.sealed", "{value}", "Values sealed.";
    INGEST_SUBJECTS = "thalweg.ingest.subject.keys", "{key}", "Subject keys created.";

    SINK_ROWS = "thalweg.sink.rows", "{row}", "Rows committed to the lake.";
    SINK_FILES = "thalweg.sink.files", "{file}", "Files committed to the lake.";
    SINK_BYTES = "thalweg.sink.bytes", "By", "Bytes of files committed to the lake.";
    SINK_COMMITS = "thalweg.sink.commits", "{commit}", "Commits to the lake.";
    SINK_COMMIT = "thalweg.sink.commit.duration", "s", "Time from closing the files to the commit's end.";
    SINK_DROPPED = "thalweg.sink.dropped", "{row}", "Rows that the lake already had.";
    SINK_BUFFERED = "thalweg.sink.buffered", "By", "Bytes of rows that wait for a commit.";
    SINK_SMALL = "thalweg.sink.files.small", "{file}", "Small files of the table, when the keeper last looked.";
    SINK_COMPACTED = "thalweg.sink.files.compacted", "{file}", "Small files that were put together with others.";
    SINK_VACUUMED = "thalweg.sink.files.vacuumed", "{file}", "Files of no version any more that were deleted.";

    TRAINER_EVENTS = "thalweg.trainer.events", "{event}", "Clean events taken.";
    TRAINER_LABELS = "thalweg.trainer.labels", "{label}", "Labels taken, by outcome.";
    TRAINER_LEARNED = "thalweg.trainer.learned", "{event}", "Events learned from.";
    TRAINER_PENDING = "thalweg.trainer.pending", "{event}", "Events that wait for their label.";
    TRAINER_MATURITY = "thalweg.trainer.label.maturity", "1", "Share of the events of an hour that have their label by now, by how long ago that was.";
    TRAINER_EXPIRED = "thalweg.trainer.expired", "{event}", "Events that waited too long, by cause.";
    TRAINER_WAIT = "thalweg.trainer.label.delay", "s", "Event time from an event to its label.";
    TRAINER_CHECKPOINTS = "thalweg.trainer.checkpoints", "{checkpoint}", "Checkpoints stored.";
    MODEL_VERSION = "thalweg.model.version", "{version}", "Version of the model in use.";
    MODEL_AGE = "thalweg.model.age", "s", "Time since the model in use was updated.";
    MODEL_LABELS = "thalweg.model.labels", "{label}", "Labels that the model has learned.";
    QUALITY_LOG_LOSS = "thalweg.quality.log_loss", "nat", "Mean log loss before learning, by window.";
    QUALITY_BASE_LOG_LOSS = "thalweg.quality.base_log_loss", "nat", "Mean log loss of always predicting the base rate, by window.";
    QUALITY_BRIER = "thalweg.quality.brier", "1", "Mean squared error of the probability, by window.";
    QUALITY_AUC = "thalweg.quality.auc", "1", "Area under the ROC curve, by window.";
    QUALITY_AUC_ERROR = "thalweg.quality.auc.error", "1", "Bound on the error of the AUC from its bins, by window.";
    QUALITY_CALIBRATION = "thalweg.quality.calibration_error", "1", "Expected calibration error, by window.";
    QUALITY_ACCURACY = "thalweg.quality.accuracy", "1", "Share of right decisions, by window.";
    QUALITY_PRECISION = "thalweg.quality.precision", "1", "Share of yes decisions that are right, by window.";
    QUALITY_PR_AUC = "thalweg.quality.pr_auc", "1", "Area under the curve of precision over recall, by window.";
    QUALITY_PR_AUC_ERROR = "thalweg.quality.pr_auc.error", "1", "Bound on the error of that area from its bins, by window.";
    QUALITY_RELIABILITY = "thalweg.quality.brier.reliability", "1", "Part of the Brier score that calibration could save, by window.";
    QUALITY_RESOLUTION = "thalweg.quality.brier.resolution", "1", "Part of the Brier score that the model saves by telling examples apart, by window.";
    QUALITY_RMSE = "thalweg.quality.rmse", "1", "Root of the mean squared error of numbers, in the label's unit, by window.";
    QUALITY_BASE_RMSE = "thalweg.quality.base_rmse", "1", "The same of always predicting the mean, by window.";
    QUALITY_MAE = "thalweg.quality.mae", "1", "Mean absolute error of numbers, in the label's unit, by window.";
    QUALITY_QUANTILE_LOSS = "thalweg.quality.quantile_loss", "1", "Mean quantile loss of numbers, in the label's unit, by window.";
    SLICE_LABELS = "thalweg.quality.slice.labels", "{label}", "Labels of a slice, by window, slice and value.";
    SLICE_LOG_LOSS = "thalweg.quality.slice.log_loss", "nat", "Mean log loss of a slice before learning, by window, slice and value.";
    SLICE_BASE_LOG_LOSS = "thalweg.quality.slice.base_log_loss", "nat", "Mean log loss in a slice of always predicting the base rate, by window, slice and value.";
    SLICE_AUC = "thalweg.quality.slice.auc", "1", "Area under the ROC curve of a slice, by window, slice and value.";
    SLICE_CALIBRATION = "thalweg.quality.slice.calibration_error", "1", "Expected calibration error of a slice, by window, slice and value.";
    SLICE_ACCURACY = "thalweg.quality.slice.accuracy", "1", "Share of right decisions or classes in a slice, by window, slice and value.";
    SLICE_RMSE = "thalweg.quality.slice.rmse", "1", "Root of the mean squared error of numbers in a slice, by window, slice and value.";
    SLICE_MAE = "thalweg.quality.slice.mae", "1", "Mean absolute error of numbers in a slice, by window, slice and value.";
    MODEL_COLLISIONS = "thalweg.model.collision_rate", "1", "Share of the model's places that are taken: how likely a new feature shares one.";
    MODEL_UNSEEN = "thalweg.model.unseen_rate", "1", "Share of features and crosses, of all that came, that had never come before.";
    QUALITY_RECALL = "thalweg.quality.recall", "1", "Share of yes labels that were decided yes, by window.";

    SCORER_SCORES = "thalweg.scorer.scores", "{score}", "Events scored.";
    SCORER_DECISIONS = "thalweg.scorer.decisions", "{score}", "Scores at or above the threshold.";
    SCORER_LATENCY = "thalweg.scorer.latency", "s", "Time from the raw record's timestamp to its score.";
    SCORER_UPDATES = "thalweg.scorer.model.updates", "{update}", "Model updates applied.";
    AUDIT_AUDITS = "thalweg.audit.audits", "{audit}", "Audits by the continuous audit, by outcome.";
    AUDIT_BROKEN = "thalweg.audit.broken_promises", "{finding}", "Findings that stand against a promise, by promise: must be 0.";
    AUDIT_LOOKED_AT = "thalweg.audit.looked_at", "{thing}", "What the last audit looked at, by promise.";
    AUDIT_PENDING = "thalweg.audit.pending", "{thing}", "What was still to come in the last audit, by promise.";
    AUDIT_THROUGH = "thalweg.audit.through", "{record}", "Raw offset up to which the last audit looked, by partition.";
    AUDIT_AGE = "thalweg.audit.age", "s", "Time since the last audit came to its end.";

    DRIFT_PSI = "thalweg.drift.psi", "1", "Population stability index of the last full window against the reference, by feature.";
    DRIFT_FLOOR = "thalweg.drift.psi.noise", "1", "What PSI sampling noise alone surpasses once in a thousand windows, by feature.";
    DRIFT_MISSING = "thalweg.drift.missing", "1", "Share of missing values in the last full window, by feature.";
}

/// Names of spans.
pub mod span {
    /// From the raw record to its clean batch.
    pub const INGEST: &str = "ingest";
    /// From the clean batch to the commit in the lake.
    pub const LAND: &str = "sink";
    /// From the clean batch to the score.
    pub const SCORE: &str = "score";
    /// From the label to the weights.
    pub const LEARN: &str = "learn";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_described() {
        for (at, signal) in ALL.iter().enumerate() {
            assert!(signal.description.ends_with('.'), "{}", signal.name);
            assert!(
                ALL[..at].iter().all(|other| other.name != signal.name),
                "{}",
                signal.name
            );
        }
    }
}

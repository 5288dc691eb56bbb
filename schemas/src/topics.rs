//! The names of a stream's topics.

/// The topics of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// What producers send.
    pub raw: String,
    /// What `ingest` found good, as Arrow batches.
    pub clean: String,
    /// What `ingest` refused, sealed, with the reason.
    pub dead: String,
    /// What became of events, sent by producers.
    pub labels: String,
    /// Updates of the model.
    pub model: String,
    /// One score for each clean event.
    pub scores: String,
}

impl Topics {
    /// Names the topics of a stream.
    pub fn of(stream: &str) -> Topics {
        let name = |suffix| format!("{stream}.{suffix}");
        Topics {
            raw: name("raw"),
            clean: name("clean"),
            dead: name("dead"),
            labels: name("labels"),
            model: name("model"),
            scores: name("scores"),
        }
    }
}

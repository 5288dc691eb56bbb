//! Goes through the model topic once, version by version, and computes the scores that each version made anew.

use anyhow::Result;
use learn::features::Rows;
use learn::model::{Scored, ServedModel};
use schemas::model::ModelMessage;
use schemas::{Contract, ModelVersion, Offset};
use scorer::model::{Versions, load};
use scorer::score::Scorer;
use trainer::MODEL_PARTITION;
use worker::{Broker, Store};

use super::events::{Events, difference};
use super::receipt::{Receipt, Receipts};
use super::verdict::{Anew, Verdict, Why, compare};
use super::{Phase, Step};
use crate::tape::Tape;

/// Rows that are scored in one go.
const MICRO_BATCH: usize = 1024;

/// Receipts of which the events were found, by version, and how far the walk has come.
pub(super) struct Walk<'a> {
    receipts: &'a Receipts,
    events: &'a Events,
    scorer: &'a Scorer,
    verdict: &'a mut Verdict,
    /// Numbers of receipts, by version.
    order: Vec<u32>,
    /// How many were settled.
    settled: usize,
    rows: Rows,
    scored: Vec<Scored>,
}

impl<'a> Walk<'a> {
    /// Begins before the first version.
    pub fn new(
        receipts: &'a Receipts,
        events: &'a Events,
        scorer: &'a Scorer,
        verdict: &'a mut Verdict,
    ) -> Walk<'a> {
        let list = receipts.list();
        let mut order: Vec<u32> = (0..list.len() as u32)
            .filter(|at| events.row(*at as usize).is_some())
            .collect();
        order.sort_unstable_by_key(|at| (list[*at as usize].model.version, *at));
        Walk {
            receipts,
            events,
            scorer,
            verdict,
            order,
            settled: 0,
            rows: Rows::new(scorer.layout()),
            scored: Vec::new(),
        }
    }

    /// Reads the model topic as far as receipts want versions; what it does not lead to is said.
    ///
    /// Where updates are gone, or their chain is broken, a snapshot that is announced goes on.
    pub async fn run<B: Broker>(
        mut self,
        broker: &B,
        topic: &str,
        contract: &Contract,
        store: Option<&Store>,
        progress: &mut dyn FnMut(Step),
    ) -> Result<()> {
        let mut tape = Tape::open(broker, (topic, MODEL_PARTITION).into(), Offset(0)).await?;
        let root = ServedModel::new(contract, self.scorer.layout());
        let mut versions = Versions::after(root);
        self.settle(versions.served());
        while self.settled < self.order.len()
            && let Some(batch) = tape.next(broker).await?
        {
            progress(Step::new(Phase::Scores, tape.passed()));
            for record in batch.records() {
                let advanced = match ModelMessage::parse(record.value().unwrap_or_default()) {
                    // An update that cannot be taken leads nowhere: the versions after it are unknown.
                    Ok(ModelMessage::Chunk(chunk)) => versions.take(chunk).unwrap_or(false),
                    Ok(ModelMessage::Snapshot(snapshot)) => {
                        let lineage = versions.served().lineage();
                        let ahead = lineage.version < snapshot.version;
                        match store {
                            Some(store) if ahead && snapshot.contract == lineage.contract => {
                                let loaded = load(&snapshot, store).await;
                                let found = loaded.is_ok();
                                if let Ok(served) = loaded {
                                    versions = Versions::after(served);
                                }
                                found
                            }
                            _ => false,
                        }
                    }
                    Err(_) => false,
                };
                if advanced {
                    self.settle(versions.served());
                }
            }
        }
        self.give_up(None);
        Ok(())
    }

    /// Computes the scores of the version that the model is of; those of versions before it come no more.
    fn settle(&mut self, model: &ServedModel) {
        let version = model.lineage().version;
        self.give_up(Some(version));
        while self.settled < self.order.len() {
            let left = &self.order[self.settled..];
            let of_version = |at: &&u32| self.receipt(**at).model.version == version;
            let group: Vec<u32> = left
                .iter()
                .take(MICRO_BATCH)
                .take_while(of_version)
                .copied()
                .collect();
            if group.is_empty() {
                return;
            }
            self.group(model, &group);
            self.settled += group.len();
        }
    }

    /// Says of receipts that their version is unknown: up to before a version, or of all.
    fn give_up(&mut self, before: Option<ModelVersion>) {
        while let Some(at) = self.order.get(self.settled) {
            let receipt = self.receipt(*at);
            let version = receipt.model.version;
            if before.is_some_and(|before| before <= version) {
                return;
            }
            let said = difference(receipt, Why::UnknownVersion(version));
            self.verdict.differs(said);
            self.settled += 1;
        }
    }

    fn group(&mut self, model: &ServedModel, group: &[u32]) {
        self.rows.clear();
        for at in group {
            if let Some(row) = self.events.row(*at as usize) {
                self.rows.push(row);
            }
        }
        model.score_all(&self.rows, &mut self.scored);
        let lineage = model.lineage();
        for (at, scored) in group.iter().zip(&self.scored) {
            let receipt = &self.receipts.list()[*at as usize];
            let why = if receipt.model.digest == lineage.digest {
                let anew = Anew {
                    score: scored.probability,
                    class: self.scorer.class(scored).map(str::to_owned),
                    decision: self.scorer.threshold() <= scored.probability,
                    reasons: self.scorer.reasons(scored),
                };
                let reasons = self.receipts.reasons(receipt);
                compare(receipt, self.receipts.class(receipt), reasons, anew)
            } else {
                Some(Why::OtherDigest {
                    version: lineage.version,
                    receipt: receipt.model.digest,
                    found: lineage.digest,
                })
            };
            match why {
                None => self.verdict.equal(),
                Some(why) => self.verdict.differs(difference(receipt, why)),
            }
        }
    }

    fn receipt(&self, at: u32) -> &'a Receipt {
        &self.receipts.list()[at as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::super::receipt::Place;
    use super::*;
    use learn::features::Row;
    use learn::learners::{Label, Learner, Params};
    use learn::model::{Lineage, Snapshot};
    use linfa::ParamGuard;
    use schemas::model::{Prequential, SnapshotAnnouncement, SnapshotKind, Update};
    use schemas::score::{ModelReference, ScoreRow, ScoreWriter};
    use schemas::{Digest, EventTime, Partition, TopicId};
    use worker::{Outgoing, Simulated};

    const TOPIC: &str = "s.model";

    fn contract() -> Contract {
        let text = include_str!("../../../schemas/fixtures/contract.toml");
        Contract::parse("contract.toml", text).unwrap()
    }

    /// A model of three versions after the first, what each says of one row, and a snapshot of the second.
    struct History {
        contract: Contract,
        row: (Vec<u32>, Vec<f64>),
        updates: Vec<Update>,
        /// Version and digest, and the score's JSON.
        scores: Vec<(Lineage, String)>,
        snapshot: Vec<u8>,
    }

    fn history() -> History {
        let contract = contract();
        let scorer = Scorer::new(&contract).unwrap();
        let layout = scorer.layout();
        let ids: Vec<u32> = (1..=layout.slots as u32).collect();
        let row = (ids, vec![0.5; layout.numbers]);
        let params = Params::of(&contract.learner).check().unwrap();
        let mut learner = Learner::new(params, layout);
        let mut lineage = Lineage::root(&contract);
        let mut served = ServedModel::new(&contract, layout);
        let mut scores = vec![(lineage, score(&contract, &scorer, &served, &row))];
        let (mut updates, mut snapshot) = (Vec::new(), Vec::new());
        for version in 1..=3 {
            let seen = Row {
                ids: &row.0,
                numbers: &row.1,
            };
            learner.learn(seen, Label::yes_or_no(version != 2)).unwrap();
            let update = lineage.advance(&mut learner, Vec::new(), Prequential::default());
            served.apply(&update).unwrap();
            updates.push(update);
            scores.push((lineage, score(&contract, &scorer, &served, &row)));
            if version == 2 {
                let whole = Snapshot {
                    learner: learner.clone(),
                    lineage,
                    sections: Default::default(),
                };
                snapshot = whole.to_bytes();
            }
        }
        History {
            contract,
            row,
            updates,
            scores,
            snapshot,
        }
    }

    /// Writes the score of a row as the scorer does.
    fn score(
        contract: &Contract,
        scorer: &Scorer,
        model: &ServedModel,
        row: &(Vec<u32>, Vec<f64>),
    ) -> String {
        let scored = model.score(Row {
            ids: &row.0,
            numbers: &row.1,
        });
        let lineage = model.lineage();
        let reference = ModelReference {
            version: lineage.version,
            digest: lineage.digest,
        };
        let (topic, partition) = (TopicId([5; 16]), Partition(0));
        let threshold = scorer.threshold();
        let writer = ScoreWriter::new(reference, contract.digest(), threshold, topic, partition);
        let named = scorer.reasons(&scored);
        let reasons = named.iter();
        let reasons: Vec<_> = reasons
            .map(|reason| ([reason.feature.as_str(), ""], reason.log_odds))
            .collect();
        let mut json = String::new();
        let row = ScoreRow {
            id: "a",
            score: scored.probability,
            class: None,
            event_time: EventTime(0),
            source_offset: Offset(0),
            reasons: &reasons,
        };
        writer.write(&row, &mut json);
        json
    }

    /// Computes scores anew on a model topic with these messages.
    async fn check(
        history: &History,
        messages: &[Vec<u8>],
        scores: &[&str],
        store: Option<&Store>,
    ) -> Verdict {
        let broker = Simulated::default();
        broker.create(TOPIC, 1);
        for value in messages {
            let record = Outgoing {
                value,
                ..Outgoing::default()
            };
            let to = (TOPIC, MODEL_PARTITION).into();
            broker.append(&to, record).unwrap();
        }
        let scorer = Scorer::new(&history.contract).unwrap();
        let (mut receipts, mut rows) = (Receipts::default(), Rows::new(scorer.layout()));
        for (at, json) in scores.iter().enumerate() {
            let (place, contract) = (Place::Line(at as u64), history.contract.digest());
            let added = receipts.add(place, json.as_bytes(), contract, |_| true);
            assert_eq!(added, Ok(()));
            rows.push(Row {
                ids: &history.row.0,
                numbers: &history.row.1,
            });
        }
        let (events, mut verdict) = (Events::of(rows), Verdict::default());
        Walk::new(&receipts, &events, &scorer, &mut verdict)
            .run(&broker, TOPIC, &history.contract, store, &mut |_| {})
            .await
            .unwrap();
        verdict
    }

    fn messages(updates: &[Update]) -> Vec<Vec<u8>> {
        updates.iter().flat_map(Update::to_messages).collect()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn scores_of_all_versions_come_out_in_any_order() {
        let history = history();
        let text = |version: usize| history.scores[version].1.as_str();
        assert_ne!(text(1), text(0));
        let scores = [text(3), text(0), text(2), text(1), text(0)];
        let all = messages(&history.updates);
        let verdict = check(&history, &all, &scores, None).await;
        assert_eq!((verdict.equals(), verdict.differences()), (5, 0));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn another_digest_and_a_version_that_nothing_leads_to_are_told_apart() {
        let history = history();
        let digest = history.scores[1].0.digest.to_string();
        let other = Digest([7; 32]).to_string();
        let changed = history.scores[1].1.replace(&digest, &other);
        let scores = [history.scores[3].1.as_str(), changed.as_str()];
        let two = messages(&history.updates[..2]);
        let verdict = check(&history, &two, &scores, None).await;
        let kinds: Vec<_> = verdict.kinds().keys().copied().collect();
        assert_eq!(kinds, ["other_digest", "unknown_version"]);
        let first = verdict.first().map(|first| first.place);
        assert_eq!(first, Some(Place::Line(0)));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_snapshot_goes_on_where_updates_are_gone() {
        let history = history();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("two"), &history.snapshot).unwrap();
        let store = Store::open(&folder.path().display().to_string()).unwrap();
        let lineage = history.scores[2].0;
        let announcement = SnapshotAnnouncement {
            kind: SnapshotKind::Snapshot,
            wire: 1,
            version: lineage.version,
            digest: lineage.digest,
            contract: lineage.contract,
            object: "two".to_owned(),
        };
        // The first update is gone: the second continues nothing that is known.
        let mut left = messages(&history.updates[1..2]);
        left.push(announcement.to_message());
        left.extend(messages(&history.updates[2..]));
        let scores: Vec<&str> = history
            .scores
            .iter()
            .map(|(_, json)| json.as_str())
            .collect();
        let verdict = check(&history, &left, &scores, Some(&store)).await;
        assert_eq!((verdict.equals(), verdict.differences()), (3, 1));
        let why = verdict.first().map(|first| first.why.clone());
        assert_eq!(why, Some(Why::UnknownVersion(ModelVersion(1))));
        let verdict = check(&history, &left, &scores, None).await;
        assert_eq!((verdict.equals(), verdict.differences()), (1, 3));
    }
}

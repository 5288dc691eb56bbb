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
                    decision: self.scorer.threshold() <= scored.probability,
                    reasons: self.scorer.reasons(scored),
                };
                compare(receipt, self.receipts.reasons(receipt), anew)
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

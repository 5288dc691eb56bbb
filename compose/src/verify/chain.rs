//! The chain of model versions: messages of the model topic go in, then checkpoints. Pure.
//!
//! Of two versions that continue the same one, the first counts: a trainer that had been replaced wrote the other.
//! That, and updates of which a crash has torn the end off, are set aside as repeats.

use std::collections::HashSet;

use learn::model::{Lineage, Snapshot};
use schemas::model::{Assembler, Chunk, ModelError, ModelMessage, SnapshotAnnouncement, Update};
use schemas::{Digest, ModelVersion};

use super::ledger::{Ledger, Promise};

/// Versions of replaced trainers that are remembered; there are a few in a topic's life.
const FORKS_MAX: usize = 65_536;

/// The one partition of the model topic.
const PARTITION: Option<i32> = Some(0);

/// The versions of the model, as far as the topic goes back.
pub(crate) struct Chain {
    contract: Digest,
    assembler: Assembler,
    /// The first version that the topic has, and the digests from there on.
    first: ModelVersion,
    digests: Vec<Digest>,
    /// Digests of versions that others came before.
    forks: HashSet<Digest>,
    ledger: Ledger,
}

impl Chain {
    /// Begins a chain of a contract's models.
    pub(crate) fn new(contract: Digest) -> Chain {
        Chain {
            contract,
            assembler: Assembler::default(),
            first: ModelVersion(0),
            digests: Vec::new(),
            forks: HashSet::new(),
            ledger: Ledger::default(),
        }
    }

    /// Takes a message of the model topic.
    pub(crate) fn message(&mut self, offset: i64, payload: &[u8]) {
        match ModelMessage::parse(payload) {
            Ok(ModelMessage::Chunk(chunk)) => self.chunk(offset, chunk),
            Ok(ModelMessage::Snapshot(announcement)) => self.announced(offset, &announcement),
            Err(error) => self.breaks(offset, error.to_string()),
        }
    }

    fn chunk(&mut self, offset: i64, chunk: Chunk) {
        match self.assembler.take(chunk) {
            Ok(None) => {}
            Ok(Some((update, digest))) => self.update(offset, &update, digest),
            Err(ModelError::OutOfOrder { .. }) => {
                self.ledger.count(Promise::Model).repeated += 1;
            }
            Err(error) => self.breaks(offset, error.to_string()),
        }
    }

    fn update(&mut self, offset: i64, update: &Update, digest: Digest) {
        self.ledger.count(Promise::Model).looked_at += 1;
        if update.contract != self.contract {
            self.ledger.count(Promise::Model).expired += 1;
            return;
        }
        let (version, parent) = (update.version, update.parent);
        let Some(last) = self.digests.last().copied() else {
            // The topic may have been cut, or made anew while the model lived on.
            if version == ModelVersion(1) && parent != self.contract {
                let what = format!("version 1 continues {parent}, not the contract's root");
                self.breaks(offset, what);
            }
            (self.first, self.digests) = (version, vec![digest]);
            return;
        };
        let next = ModelVersion(self.first.0.saturating_add(self.digests.len() as u64));
        if version < next {
            self.again(version, digest);
        } else if self.forks.contains(&parent) {
            // Also where the replaced trainer came further than the other one has come yet.
            self.fork(digest);
        } else if next < version {
            let what = format!("version {version} comes where {next} should");
            self.breaks(offset, what);
            (self.first, self.digests) = (version, vec![digest]);
        } else if parent == last {
            self.digests.push(digest);
        } else {
            let what = format!("version {version} continues {parent}, the one before it is {last}");
            self.breaks(offset, what);
        }
    }

    /// Takes a version that is there already.
    fn again(&mut self, version: ModelVersion, digest: Digest) {
        match self.digest(version) == Some(digest) {
            true => self.ledger.count(Promise::Model).repeated += 1,
            false => self.fork(digest),
        }
    }

    fn fork(&mut self, digest: Digest) {
        self.ledger.count(Promise::Model).repeated += 1;
        if self.forks.len() < FORKS_MAX {
            self.forks.insert(digest);
        }
    }

    fn announced(&mut self, offset: i64, found: &SnapshotAnnouncement) {
        if found.contract != self.contract {
            return;
        }
        if let Err(what) = self.knows(found.version, found.digest) {
            self.breaks(offset, format!("checkpoint {}: {what}", found.object));
        }
    }

    /// Takes a checkpoint.
    pub(crate) fn checkpoint(&mut self, name: &str, bytes: &[u8]) {
        self.ledger.count(Promise::Checkpoints).looked_at += 1;
        let what = match Snapshot::from_bytes(bytes) {
            Err(error) => error.to_string(),
            Ok(snapshot) => {
                let Lineage {
                    version,
                    digest,
                    contract,
                } = snapshot.lineage;
                if contract != self.contract {
                    self.ledger.count(Promise::Checkpoints).expired += 1;
                    return;
                }
                match self.knows(version, digest) {
                    Ok(()) => return,
                    Err(what) => what,
                }
            }
        };
        let what = || format!("{name}: {what}");
        self.ledger.breaks(Promise::Checkpoints, None, None, what);
    }

    /// Says what is wrong with a version that somebody names; versions from before the topic's first are believed.
    fn knows(&self, version: ModelVersion, digest: Digest) -> Result<(), String> {
        if self.digests.is_empty() || version < self.first || self.forks.contains(&digest) {
            return Ok(());
        }
        match self.digest(version) {
            Some(published) if published == digest => Ok(()),
            Some(published) => Err(format!(
                "it is of version {version} with digest {digest}, which was published as {published}"
            )),
            None => Err(format!(
                "it is of version {version}, which was not published"
            )),
        }
    }

    /// Closes the chain.
    pub(crate) fn close(self) -> Ledger {
        self.ledger
    }

    fn digest(&self, version: ModelVersion) -> Option<Digest> {
        let at = version.0.checked_sub(self.first.0)?;
        self.digests.get(usize::try_from(at).ok()?).copied()
    }

    fn breaks(&mut self, offset: i64, what: String) {
        self.ledger
            .breaks(Promise::Model, PARTITION, Some(offset), || what);
    }
}

#[cfg(test)]
mod tests {
    use schemas::model::{Prequential, SnapshotKind};

    use super::*;

    const CONTRACT: Digest = Digest([9; 32]);

    fn update(version: u64, parent: Digest, mark: u32) -> Update {
        Update {
            version: ModelVersion(version),
            parent,
            contract: CONTRACT,
            segments: Vec::new(),
            prequential: Prequential::default(),
            dense: Vec::new(),
            weights: vec![(mark, 0.5)],
        }
    }

    fn announcement(of: &Update) -> Vec<u8> {
        SnapshotAnnouncement {
            kind: SnapshotKind::Snapshot,
            wire: 1,
            version: of.version,
            digest: of.digest(),
            contract: CONTRACT,
            object: "s/x".to_owned(),
        }
        .to_message()
    }

    fn check(messages: &[Vec<u8>], expected: Option<i64>, repeated: u64) {
        let mut chain = Chain::new(CONTRACT);
        for (offset, message) in messages.iter().enumerate() {
            chain.message(offset as i64, message);
        }
        let ledger = chain.close();
        let found = ledger.firsts(Promise::Model).next();
        assert_eq!(found.and_then(|finding| finding.offset), expected);
        assert_eq!(ledger.tally(Promise::Model).repeated, repeated);
    }

    #[test]
    fn every_update_continues_the_one_before() {
        let one = update(1, CONTRACT, 1);
        let two = update(2, one.digest(), 2);
        let three = update(3, two.digest(), 3);
        let say = |update: &Update| update.to_messages().remove(0);
        check(
            &[say(&one), say(&two), announcement(&two), say(&three)],
            None,
            0,
        );
        check(&[say(&two), say(&three)], None, 0);
        check(&[say(&one), say(&three)], Some(1), 0);
        check(&[say(&update(1, Digest([8; 32]), 1))], Some(0), 0);
        let stranger = update(2, Digest([8; 32]), 2);
        check(&[say(&one), say(&stranger), say(&two)], Some(1), 0);
        check(&[say(&one), announcement(&two)], Some(1), 0);
        check(&[say(&one), b"nonsense".to_vec()], Some(1), 0);
        let mut flipped = say(&two);
        *flipped.last_mut().unwrap() ^= 1;
        check(&[say(&one), flipped, say(&two)], Some(1), 0);
    }

    #[test]
    fn what_a_replaced_trainer_wrote_is_set_aside() {
        let one = update(1, CONTRACT, 1);
        let (two, other) = (update(2, one.digest(), 2), update(2, one.digest(), 3));
        let after_other = update(3, other.digest(), 4);
        let say = |update: &Update| update.to_messages().remove(0);
        check(&[&one, &two, &one, &other, &after_other].map(say), None, 3);
        let far_ahead = update(4, after_other.digest(), 5);
        let three = update(3, two.digest(), 6);
        let all = [&one, &two, &other, &after_other, &far_ahead, &three];
        check(&all.map(say), None, 3);
        check(&[&one, &two, &far_ahead].map(say), Some(2), 0);
    }

    #[test]
    fn what_is_no_checkpoint_is_named() {
        let mut chain = Chain::new(CONTRACT);
        chain.checkpoint("flights/7.safetensors", b"nonsense");
        let ledger = chain.close();
        let found = ledger.firsts(Promise::Checkpoints).next().unwrap();
        assert!(found.what.starts_with("flights/7.safetensors: "));
    }
}

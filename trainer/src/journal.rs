//! The journal: which segments were taken in which order, and the chain of versions that were published.
//!
//! A version is a function of the log and of the journals up to it. The journal of a version is part of its
//! update, so whoever has the model topic and the log can make every version again, bit for bit.

use learn::model::Lineage;
use schemas::model::{Assembler, Chunk, Prequential, Segment, Update};
use schemas::{Digest, ModelVersion};
use tracing::warn;

/// Segments since the last version.
#[derive(Debug, Default)]
pub struct Journal(Vec<Segment>);

impl Journal {
    /// Adds what was taken; one line with the last one if it continues that.
    pub fn push(&mut self, segment: Segment) {
        if let Some(last) = self.0.last_mut()
            && (last.input, last.partition) == (segment.input, segment.partition)
            && last.last.next() == segment.first
        {
            last.last = segment.last;
            return;
        }
        self.0.push(segment);
    }

    /// Returns how many lines there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes all lines out.
    pub fn take(&mut self) -> Vec<Segment> {
        std::mem::take(&mut self.0)
    }
}

/// One version that was published: what it was made of, and its digest.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The version.
    pub version: ModelVersion,
    /// Its digest.
    pub digest: Digest,
    /// What was taken for it, in order.
    pub segments: Vec<Segment>,
    /// How well the model predicted so far.
    pub prequential: Prequential,
}

/// Follows the versions of the model topic, from one on.
///
/// Of two versions that continue the same one (a trainer that had been replaced wrote on for a while), the one that
/// comes first counts, and nothing that continues the other. An update of which some chunks are missing does not
/// count either.
#[derive(Debug)]
pub struct Chain {
    version: ModelVersion,
    digest: Digest,
    contract: Digest,
    assembler: Assembler,
}

impl Chain {
    /// Begins after a version.
    pub fn after(lineage: Lineage) -> Chain {
        Chain {
            version: lineage.version,
            digest: lineage.digest,
            contract: lineage.contract,
            assembler: Assembler::default(),
        }
    }

    /// Takes the next chunk of the topic; returns the next version of the chain when it is complete.
    pub fn take(&mut self, chunk: Chunk) -> Option<Published> {
        let version = chunk.version;
        match self.assembler.take(chunk) {
            Ok(None) => None,
            Ok(Some((update, digest))) => self.continues(update, digest),
            Err(error) => {
                warn!(%version, %error, "skipped an update that is not whole");
                None
            }
        }
    }

    fn continues(&mut self, update: Update, digest: Digest) -> Option<Published> {
        let version = update.version;
        if version <= self.version && update.contract == self.contract {
            return None;
        }
        let next = ModelVersion(self.version.0 + 1);
        if (update.parent, update.contract, version) != (self.digest, self.contract, next) {
            warn!(%version, parent = %update.parent, "skipped an update that does not continue the model");
            return None;
        }
        (self.version, self.digest) = (version, digest);
        Some(Published {
            version,
            digest,
            segments: update.segments,
            prequential: update.prequential,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::model::{Input, ModelMessage};
    use schemas::{Offset, Partition};

    fn segment(partition: i32, first: i64, last: i64) -> Segment {
        Segment {
            input: Input::Labels,
            partition: Partition(partition),
            first: Offset(first),
            last: Offset(last),
        }
    }

    #[test]
    fn lines_that_continue_each_other_are_one() {
        let mut journal = Journal::default();
        for (partition, first, last) in
            [(0, 0, 4), (0, 5, 9), (1, 10, 11), (0, 10, 12), (0, 14, 15)]
        {
            journal.push(segment(partition, first, last));
        }
        let expected = [
            segment(0, 0, 9),
            segment(1, 10, 11),
            segment(0, 10, 12),
            segment(0, 14, 15),
        ];
        assert_eq!(journal.take(), expected);
        assert!(journal.is_empty());
    }

    const CONTRACT: Digest = Digest([9; 32]);

    fn update(version: u64, parent: Digest, mark: i64) -> Update {
        Update {
            version: ModelVersion(version),
            parent,
            contract: CONTRACT,
            segments: vec![segment(0, mark, mark)],
            prequential: Prequential::default(),
            dense: Vec::new(),
            weights: (0..100_000).map(|at| (at, mark as f32)).collect(),
        }
    }

    fn chunks(update: &Update) -> Vec<Chunk> {
        let read = |message: Vec<u8>| match ModelMessage::parse(&message) {
            Ok(ModelMessage::Chunk(chunk)) => chunk,
            other => panic!("{other:?}"),
        };
        update.to_messages().into_iter().map(read).collect()
    }

    fn check(chunks: Vec<Chunk>, expected: &[&Update]) {
        let root = Lineage {
            version: ModelVersion(0),
            digest: CONTRACT,
            contract: CONTRACT,
        };
        let mut chain = Chain::after(root);
        let found: Vec<Digest> = chunks
            .into_iter()
            .filter_map(|chunk| chain.take(chunk))
            .map(|published| published.digest)
            .collect();
        let expected: Vec<Digest> = expected.iter().map(|update| update.digest()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_first_of_two_counts_and_what_continues_it() {
        let one = update(1, CONTRACT, 1);
        let (two, other) = (update(2, one.digest(), 2), update(2, one.digest(), 3));
        let (three, after_other) = (update(3, two.digest(), 4), update(3, other.digest(), 5));
        let all = [&one, &two, &other, &after_other, &three, &one].map(chunks);
        check(all.concat(), &[&one, &two, &three]);
    }

    #[test]
    fn what_is_torn_does_not_count() {
        let (one, again) = (update(1, CONTRACT, 1), update(1, CONTRACT, 2));
        let two = update(2, again.digest(), 3);
        let torn = chunks(&one)[..1].to_vec();
        check(
            [torn.clone(), chunks(&again), chunks(&two)].concat(),
            &[&again, &two],
        );
        check([chunks(&again), torn].concat(), &[&again]);
    }

    #[test]
    fn two_writers_between_each_other_lose_both_updates() {
        let (one, other) = (update(1, CONTRACT, 1), update(1, CONTRACT, 2));
        let (mine, theirs) = (chunks(&one), chunks(&other));
        let mixed = [&mine[..1], &theirs[..1], &mine[1..], &theirs[1..]].concat();
        check([mixed, mine].concat(), &[&one]);
    }
}

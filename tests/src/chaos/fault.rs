//! What goes wrong, and in which order: a pure function of a seed.

use std::fmt;

/// A worker of which several instances run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Raw to clean.
    Ingest,
    /// Clean to the lake.
    Sink,
    /// Clean to scores.
    Scorer,
    /// Clean and labels to the model.
    Trainer,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Ingest, Kind::Sink, Kind::Scorer, Kind::Trainer];

    /// Returns the command that runs it.
    pub fn command(self) -> &'static str {
        match self {
            Kind::Ingest => "ingest",
            Kind::Sink => "sink",
            Kind::Scorer => "scorer",
            Kind::Trainer => "trainer",
        }
    }
}

/// A place in which objects are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Store {
    /// The sinks' table.
    Lake,
    /// The trainers' checkpoints.
    Checkpoints,
}

/// What goes wrong in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// An instance is ended with SIGKILL.
    Kill(Kind),
    /// An instance is stopped with SIGSTOP until others have its partitions, and then goes on as a zombie.
    Freeze(Kind),
    /// The embedded broker, or the next node of the cluster, is ended with SIGKILL and started anew.
    Broker,
    /// A folder of objects is something else for a while.
    Break(Store),
    /// The disk that has the folders of objects and the keys is full for a while.
    FillDisk,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Kill(kind) => write!(f, "kill -9 of the busiest {}", kind.command()),
            Fault::Freeze(kind) => write!(f, "the busiest {} becomes a zombie", kind.command()),
            Fault::Broker => f.write_str("kill -9 of a broker"),
            Fault::Break(Store::Lake) => f.write_str("the lake's store breaks"),
            Fault::Break(Store::Checkpoints) => f.write_str("the checkpoints' store breaks"),
            Fault::FillDisk => f.write_str("the disk is full"),
        }
    }
}

/// Every fault, each as often as it comes in one pass.
const DECK: [Fault; 12] = [
    Fault::Kill(Kind::Ingest),
    Fault::Kill(Kind::Sink),
    Fault::Kill(Kind::Scorer),
    Fault::Kill(Kind::Trainer),
    Fault::Freeze(Kind::Ingest),
    Fault::Freeze(Kind::Sink),
    Fault::Freeze(Kind::Scorer),
    Fault::Freeze(Kind::Trainer),
    Fault::Broker,
    Fault::Break(Store::Lake),
    Fault::Break(Store::Checkpoints),
    Fault::FillDisk,
];

/// Returns the faults of some rounds: the deck is shuffled, dealt, and shuffled anew, so that each fault comes.
pub fn plan(seed: u64, rounds: usize) -> Vec<Fault> {
    let mut state = seed;
    let mut faults = Vec::new();
    while faults.len() < rounds {
        let mut deck = DECK;
        for at in (1..deck.len()).rev() {
            deck.swap(at, (next(&mut state) % (at as u64 + 1)) as usize);
        }
        faults.extend(deck);
    }
    faults.truncate(rounds);
    faults
}

/// Steele, Lea and Flood's SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_what_goes_wrong_and_each_pass_has_every_fault() {
        let faults = plan(7, 2 * DECK.len() + 3);
        assert_eq!(faults, plan(7, faults.len()));
        assert_ne!(faults, plan(8, faults.len()));
        let mut all = DECK;
        all.sort_unstable();
        for pass in faults.chunks_exact(DECK.len()) {
            let mut pass = pass.to_vec();
            pass.sort_unstable();
            assert_eq!(pass, all);
        }
        assert_eq!(faults.len(), 2 * DECK.len() + 3);
    }
}

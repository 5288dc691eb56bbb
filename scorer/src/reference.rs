//! The reference of drift in the object store, beside the checkpoints: frozen once, for all scorers of a stream, whenever
//! they restart.
//!
//! Whoever has seen a whole window first stores it; all others go on with that one. To have a new one made, delete the
//! object. No score waits for the store: it is asked beside, and its answer looked for between batches.

use std::time::{Duration, Instant};

use learn::drift::DriftMonitor;
use learn::features::FeatureSpace;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload};
use schemas::Contract;
use tokio::task::JoinSet;
use tracing::{info, warn};
use worker::Store;

/// How long the store may take.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How long a store that failed is left in peace.
const RETRY: Duration = Duration::from_mins(1);

/// The reference of one contract.
pub(crate) struct Reference {
    store: Store,
    name: String,
    state: State,
    /// The request that is on its way, if one is; it ends with us.
    asked: JoinSet<Result<Answer, String>>,
    next: Option<Instant>,
}

/// What is known of the store.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Nothing.
    Unknown,
    /// It had no reference.
    Missing,
    /// Its reference is ours.
    Shared,
}

/// What the store says.
enum Answer {
    /// This is its reference, if it has one.
    Has(Option<Vec<u8>>),
    /// Ours is stored, unless another scorer was first.
    Stored(bool),
}

impl Reference {
    /// Names the reference of a contract.
    pub(crate) fn of(contract: &Contract, store: Store) -> Reference {
        let (stream, digest) = (&contract.stream.name, contract.digest().to_string());
        Reference {
            store,
            name: format!("{stream}/drift-{digest:.16}.reference"),
            state: State::Unknown,
            asked: JoinSet::new(),
            next: None,
        }
    }

    /// Takes the reference over from the store, or stores ours once it is frozen: one step of that, without waiting.
    pub(crate) fn tend(&mut self, now: Instant, space: &FeatureSpace, drift: &mut DriftMonitor) {
        let done = match self.asked.try_join_next() {
            Some(answer) => answer
                .unwrap_or_else(|error| Err(error.to_string()))
                .and_then(|answer| self.hear(answer, space, drift)),
            None => Ok(()),
        };
        if let Err(reason) = done {
            warn!(object = self.name, %reason, "the reference of drift is not shared; trying again later");
            self.next = Some(now + RETRY);
        }
        let due = self.next.is_none_or(|next| next <= now);
        if self.state != State::Shared && self.asked.is_empty() && due {
            self.ask(drift);
        }
    }

    fn ask(&mut self, drift: &DriftMonitor) {
        if self.state == State::Unknown {
            self.asked.spawn(get(self.store.clone(), self.name.clone()));
        } else if let Some(reference) = drift.reference() {
            let bytes = reference.to_bytes();
            self.asked
                .spawn(put(self.store.clone(), self.name.clone(), bytes));
        }
    }

    fn hear(
        &mut self,
        answer: Answer,
        space: &FeatureSpace,
        drift: &mut DriftMonitor,
    ) -> Result<(), String> {
        self.state = match answer {
            Answer::Has(Some(bytes)) => {
                take(&bytes, space, drift)?;
                State::Shared
            }
            Answer::Has(None) => State::Missing,
            Answer::Stored(true) => {
                info!(object = self.name, "stored the reference of drift");
                State::Shared
            }
            Answer::Stored(false) => State::Unknown,
        };
        Ok(())
    }
}

/// Goes on with a stored reference.
fn take(bytes: &[u8], space: &FeatureSpace, drift: &mut DriftMonitor) -> Result<(), String> {
    let wrong = || "it is damaged: delete it, and another will be made".to_owned();
    let stored = DriftMonitor::from_bytes(space, bytes).map_err(|_| wrong())?;
    let stored = stored
        .reference()
        .filter(|stored| stored.window() == drift.window());
    *drift = stored.ok_or_else(wrong)?;
    Ok(())
}

async fn get(store: Store, name: String) -> Result<Answer, String> {
    let path = store.path(&name);
    let got = async {
        let object = store.objects.get(&path).await?;
        object.bytes().await
    };
    match in_time(got).await? {
        Ok(bytes) => Ok(Answer::Has(Some(bytes.into()))),
        Err(object_store::Error::NotFound { .. }) => Ok(Answer::Has(None)),
        Err(error) => Err(error.to_string()),
    }
}

/// Stores a reference if there is none.
async fn put(store: Store, name: String, bytes: Vec<u8>) -> Result<Answer, String> {
    let path = store.path(&name);
    let only_if_missing = PutOptions::from(PutMode::Create);
    let bytes = PutPayload::from(bytes);
    let put = store.objects.put_opts(&path, bytes, only_if_missing);
    match in_time(put).await? {
        Ok(_) => Ok(Answer::Stored(true)),
        Err(object_store::Error::AlreadyExists { .. }) => Ok(Answer::Stored(false)),
        Err(error) => Err(error.to_string()),
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let done = tokio::time::timeout(WAIT_MAX, work).await;
    done.map_err(|_| format!("the store did not answer within {WAIT_MAX:?}"))
}

#[cfg(test)]
mod tests {
    use learn::features::{Row, Rows};

    use super::*;

    const WINDOW: u32 = 500;

    fn contract() -> Contract {
        let text = include_str!("../../compose/streams/flights/stream.toml");
        Contract::parse("stream.toml", text).unwrap()
    }

    /// A scorer's part of it.
    struct One {
        space: FeatureSpace,
        drift: DriftMonitor,
        reference: Reference,
    }

    impl One {
        fn of(place: &str) -> One {
            let contract = contract();
            let space = FeatureSpace::new(&contract).unwrap();
            One {
                drift: DriftMonitor::new(&space, WINDOW),
                reference: Reference::of(&contract, Store::open(place).unwrap()),
                space,
            }
        }

        /// Watches a window of events whose numbers begin at one.
        fn window(&mut self, least: f64) -> &mut One {
            let layout = self.space.layout();
            let mut rows = Rows::new(layout);
            for at in 0..WINDOW {
                let numbers = vec![least + f64::from(at % 50); layout.numbers];
                let ids = vec![at % 7; layout.slots];
                rows.push(Row {
                    ids: &ids,
                    numbers: &numbers,
                });
            }
            self.drift.observe(&rows, &vec![0.5; WINDOW as usize]);
            self
        }

        async fn tend(&mut self, now: Instant) -> State {
            let One {
                space,
                drift,
                reference,
            } = self;
            reference.tend(now, space, drift);
            while !reference.asked.is_empty() {
                tokio::task::yield_now().await;
                reference.tend(now, space, drift);
            }
            reference.state
        }

        /// Returns the index of the last window's first number.
        fn psi(&self) -> f64 {
            self.drift.last()[0].psi.psi
        }
    }

    #[tokio::test]
    async fn a_restart_goes_on_with_the_first_reference() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display().to_string();
        let now = Instant::now();
        let mut first = One::of(&place);
        assert_eq!(first.tend(now).await, State::Missing);
        assert_eq!(first.window(0.0).tend(now).await, State::Shared);
        assert!(first.window(0.0).psi() < 0.01);

        let mut restarted = One::of(&place);
        assert_eq!(restarted.tend(now).await, State::Shared);
        assert!(1.0 < restarted.window(30.0).psi());
        // One that never asked would take what is new for what was always so.
        assert!(One::of(&place).window(30.0).window(30.0).psi() < 0.01);
    }

    #[tokio::test]
    async fn of_two_that_begin_together_the_second_takes_the_first_ones() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display().to_string();
        let now = Instant::now();
        let (mut one, mut other) = (One::of(&place), One::of(&place));
        assert_eq!(one.tend(now).await, State::Missing);
        assert_eq!(other.tend(now).await, State::Missing);
        assert_eq!(one.window(0.0).tend(now).await, State::Shared);
        assert_eq!(other.window(30.0).tend(now).await, State::Shared);
        assert!(1.0 < other.window(30.0).psi());
    }

    #[tokio::test]
    async fn nobody_waits_for_a_store_that_does_not_answer() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = One::of(&folder.path().display().to_string());
        one.reference.asked.spawn(std::future::pending());
        let now = Instant::now();
        one.reference.tend(now, &one.space, &mut one.drift);
        assert_eq!(one.reference.state, State::Unknown);
        assert_eq!(one.reference.asked.len(), 1, "one request at a time");
    }

    #[tokio::test]
    async fn a_damaged_reference_and_a_store_that_fails_are_left_in_peace() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display().to_string();
        let now = Instant::now();
        let mut one = One::of(&place);
        let path = folder.path().join(&one.reference.name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, b"nonsense").unwrap();
        assert_eq!(one.tend(now).await, State::Unknown);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(one.window(0.0).tend(now).await, State::Unknown, "too early");
        assert_eq!(one.tend(now + RETRY).await, State::Shared);
        assert!(one.window(0.0).psi() < 0.01, "its own reference is kept");
    }
}

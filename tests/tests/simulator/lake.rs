//! Delta's log on a simulated store. Delta works in a thread of its own, which a gate holds while the world moves; once
//! it opens, the world stands still until all is done. So what happens does not depend on how fast that thread is.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use deltalake_core::DeltaResult;
use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::logstore::{
    CommitOrBytes, LogStore, LogStoreConfig, LogStoreRef, StorageConfig, logstore_with,
};
use object_store::ObjectStore;
use tokio::task::coop::{Unconstrained, unconstrained};
use url::Url;
use uuid::Uuid;

use super::store::SimulatedStore;

/// A log that says when Delta may be at work.
pub struct SimulatedLog {
    log: LogStoreRef,
    store: SimulatedStore,
    gate: Arc<Gate>,
}

/// Holds the one thread in which Delta works.
#[derive(Default)]
pub struct Gate {
    /// Dropped to open it.
    shut: Mutex<Option<mpsc::Sender<()>>>,
}

impl Gate {
    /// Shuts the gate, if it is not shut: work that comes to the thread from now on waits.
    fn shut(&self) {
        let mut shut = self.shut.lock().unwrap_or_else(PoisonError::into_inner);
        if shut.is_none() {
            let (keeps_shut, opened) = mpsc::channel();
            *shut = Some(keeps_shut);
            tokio::task::spawn_blocking(move || opened.recv());
        }
    }

    /// Opens the gate, if it is shut; says whether it was. The thread tells once it has nothing left to do.
    fn open(&self, told: &mpsc::Sender<Told>) -> bool {
        let mut shut = self.shut.lock().unwrap_or_else(PoisonError::into_inner);
        if shut.take().is_none() {
            return false;
        }
        // The runtime has one thread for such work, so this comes after whatever waits for it.
        let told = told.clone();
        tokio::task::spawn_blocking(move || told.send(Told::Done));
        true
    }
}

impl fmt::Debug for SimulatedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimulatedLog")
    }
}

/// Opens the log of the one table, and the gate before Delta's work.
pub fn open(store: &SimulatedStore) -> (LogStoreRef, Arc<Gate>) {
    let url = Url::parse("memory:///s/").expect("it is a URL");
    let log = logstore_with(Arc::new(store.clone()), &url, StorageConfig::default());
    let gate = Arc::new(Gate::default());
    let log = SimulatedLog {
        log: log.expect("Delta knows stores in memory"),
        store: store.clone(),
        gate: gate.clone(),
    };
    (Arc::new(log), gate)
}

impl SimulatedLog {
    fn log(&self) -> &LogStoreRef {
        self.gate.shut();
        &self.log
    }
}

#[async_trait::async_trait]
impl LogStore for SimulatedLog {
    fn name(&self) -> String {
        self.log.name()
    }

    async fn read_commit_entry(&self, version: u64) -> DeltaResult<Option<Bytes>> {
        self.log().read_commit_entry(version).await
    }

    async fn write_commit_entry(
        &self,
        version: u64,
        commit: CommitOrBytes,
        operation: Uuid,
    ) -> Result<(), TransactionError> {
        self.log()
            .write_commit_entry(version, commit, operation)
            .await
    }

    async fn abort_commit_entry(
        &self,
        version: u64,
        commit: CommitOrBytes,
        operation: Uuid,
    ) -> Result<(), TransactionError> {
        self.log()
            .abort_commit_entry(version, commit, operation)
            .await
    }

    async fn get_latest_version(&self, start: u64) -> DeltaResult<u64> {
        self.log().get_latest_version(start).await
    }

    fn object_store(&self, operation: Option<Uuid>) -> Arc<dyn ObjectStore> {
        self.log().object_store(operation)
    }

    fn root_object_store(&self, _: Option<Uuid>) -> Arc<dyn ObjectStore> {
        self.gate.shut();
        Arc::new(self.store.abroad())
    }

    fn config(&self) -> &LogStoreConfig {
        self.log.config()
    }
}

/// A future that may use Delta.
pub struct Still<F> {
    /// Never made to yield by tokio: how often it is polled while Delta works depends on how fast that is.
    inner: Pin<Box<Unconstrained<F>>>,
    gate: Arc<Gate>,
}

impl<F> Still<F> {
    /// Wraps a future that uses the log behind a gate.
    pub fn new(inner: F, gate: Arc<Gate>) -> Still<F> {
        let inner = Box::pin(unconstrained(inner));
        Still { inner, gate }
    }
}

/// What a poll hears while Delta works.
enum Told {
    /// Something was done that the future waits for.
    Rung,
    /// The thread has nothing left to do.
    Done,
}

/// A waker that tells.
struct Bell {
    told: mpsc::Sender<Told>,
    waker: Waker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // Nobody listens once the poll is over.
        let _ = self.told.send(Told::Rung);
        self.waker.wake_by_ref();
    }
}

impl<F: Future> Future for Still<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let (tells, told) = mpsc::channel();
        let bell = Bell {
            told: tells.clone(),
            waker: context.waker().clone(),
        };
        let waker = Waker::from(Arc::new(bell));
        let mut working = 0;
        loop {
            let polled = self.inner.as_mut().poll(&mut Context::from_waker(&waker));
            working += usize::from(self.gate.open(&tells));
            while 0 < working {
                match told.recv().expect("it has a sender here") {
                    // The thread may wait for the future, which has to take some of what it reads.
                    Told::Rung if polled.is_pending() => break,
                    Told::Rung => {}
                    Told::Done => working -= 1,
                }
            }
            if working == 0 {
                return polled;
            }
            // What was done may bring more to do.
            self.gate.shut();
        }
    }
}

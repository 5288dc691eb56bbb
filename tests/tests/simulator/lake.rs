//! Delta's log on a simulated store. Delta works in threads of its own; while it does, the world stands still, so
//! that what happens does not depend on how fast they are.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use deltalake_core::DeltaResult;
use deltalake_core::kernel::transaction::TransactionError;
use deltalake_core::logstore::{
    CommitOrBytes, LogStore, LogStoreConfig, LogStoreRef, StorageConfig, logstore_with,
};
use object_store::ObjectStore;
use url::Url;
use uuid::Uuid;

use super::store::SimulatedStore;

/// A log that says when Delta may be at work.
pub struct SimulatedLog {
    log: LogStoreRef,
    store: SimulatedStore,
    busy: Arc<AtomicBool>,
}

impl fmt::Debug for SimulatedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimulatedLog")
    }
}

/// Opens the log of the one table, and what says that Delta may be at work.
pub fn open(store: &SimulatedStore) -> (LogStoreRef, Arc<AtomicBool>) {
    let url = Url::parse("memory:///s/").expect("it is a URL");
    let log = logstore_with(Arc::new(store.clone()), &url, StorageConfig::default());
    let busy = Arc::new(AtomicBool::new(false));
    let log = SimulatedLog {
        log: log.expect("Delta knows stores in memory"),
        store: store.clone(),
        busy: busy.clone(),
    };
    (Arc::new(log), busy)
}

impl SimulatedLog {
    fn log(&self) -> &LogStoreRef {
        self.busy.store(true, Ordering::Relaxed);
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
        self.busy.store(true, Ordering::Relaxed);
        Arc::new(self.store.abroad())
    }

    fn config(&self) -> &LogStoreConfig {
        self.log.config()
    }
}

/// A future that may use Delta, and that lets the world go on only when Delta is not at work.
pub struct Still<F> {
    pub inner: Pin<Box<F>>,
    pub busy: Arc<AtomicBool>,
}

/// A waker that knows whether it was used.
struct Bell {
    rung: AtomicBool,
    waker: Waker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Relaxed);
        self.waker.wake_by_ref();
    }
}

impl<F: Future> Future for Still<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let bell = Arc::new(Bell {
            rung: AtomicBool::new(false),
            waker: context.waker().clone(),
        });
        let waker = Waker::from(bell.clone());
        let polled = self.inner.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_pending() && self.busy.load(Ordering::Relaxed) {
            // The runtime has one thread for such work, so this comes after whatever Delta does.
            let (done, wait) = mpsc::channel();
            tokio::task::spawn_blocking(move || done.send(()));
            wait.recv().expect("the thread answers");
            // Work that was done has woken us, and may bring more.
            if !bell.rung.load(Ordering::Relaxed) {
                self.busy.store(false, Ordering::Relaxed);
            }
        }
        polled
    }
}

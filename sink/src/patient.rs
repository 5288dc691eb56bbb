//! Patience with an object store that fails for a while: what is to be stored waits, and with it the poll.
//!
//! The stage takes no more batches meanwhile, so the worker's channel fills, the poll thread waits and librdkafka stops
//! to fetch: nothing grows. Most failures are over by then; if not, the process ends and begins anew.

use std::time::Duration;

use deltalake_core::logstore::ObjectStoreRef;
use object_store::{ObjectStoreExt, PutPayload};
use tracing::warn;

/// The first pause; each is twice the one before.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// The longest pause: so soon is it seen that the store is well again.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// No longer than this: a process that is told to stop has half a minute.
const PATIENCE: Duration = Duration::from_secs(15);

/// Stores an object, by several attempts if need be.
///
/// # Errors
/// The last attempt's.
pub(crate) async fn put(
    store: &ObjectStoreRef,
    name: &str,
    payload: PutPayload,
) -> object_store::Result<()> {
    let began = worker::now();
    let mut pause = PAUSE_MIN;
    loop {
        match store.put(&name.into(), payload.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) if PATIENCE <= worker::now() - began => return Err(error),
            Err(error) => warn!(name, %error, ?pause, "could not store a file; trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

//! The outbox of one partition: a clean batch leaves once the dead letters of what it covers are acknowledged.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use schemas::Offset;
use tokio::sync::{mpsc, oneshot};
use worker::{BrokerError, Lane, Outgoing};

/// Clean batches that may wait in one partition.
const BATCHES_MAX: usize = 8;

/// A clean batch on its way.
pub(crate) struct Parcel {
    /// Number of the last dead letter of what the batch covers, in the dead lane.
    pub(crate) after_letter: u64,
    /// Headers.
    pub(crate) headers: [(&'static str, Vec<u8>); 7],
    /// Payload.
    pub(crate) payload: Vec<u8>,
    /// The raw offset after the last that the batch covers.
    pub(crate) next: Offset,
}

enum Order {
    Send(Box<Parcel>),
    Flush(oneshot::Sender<Result<(), BrokerError>>),
}

/// Clean batches that were sent, with the raw offset after each.
#[derive(Default)]
struct Sent {
    batches: VecDeque<(u64, Offset)>,
    failed: Option<BrokerError>,
}

/// Hands clean batches to a task that sends them in order.
pub(crate) struct Outbox<L> {
    orders: mpsc::Sender<Order>,
    sent: Arc<Mutex<Sent>>,
    clean: L,
}

impl<L: Lane> Outbox<L> {
    /// Begins the task; it ends when the outbox is dropped.
    pub(crate) fn start(clean: L, dead: L) -> Outbox<L> {
        let (orders, inbox) = mpsc::channel(BATCHES_MAX);
        let sent = Arc::default();
        tokio::spawn(work(inbox, clean.clone(), dead, Arc::clone(&sent)));
        Outbox {
            orders,
            sent,
            clean,
        }
    }

    /// Puts a batch in; waits while the outbox is full.
    pub(crate) async fn put(&self, parcel: Parcel) -> Result<(), BrokerError> {
        let sent = self.orders.send(Order::Send(Box::new(parcel))).await;
        sent.map_err(|_| self.failure())
    }

    /// Waits until all that was put in is acknowledged.
    pub(crate) async fn flush(&self) -> Result<(), BrokerError> {
        let (answer, flushed) = oneshot::channel();
        self.orders
            .send(Order::Flush(answer))
            .await
            .map_err(|_| self.failure())?;
        flushed.await.unwrap_or_else(|_| Err(self.failure()))
    }

    /// Returns the raw offset before which everything is acknowledged, if it moved.
    pub(crate) fn durable(&self) -> Result<Option<Offset>, BrokerError> {
        let acked = self.clean.acked()?;
        let Ok(mut sent) = self.sent.lock() else {
            return Err(BrokerError::Stopped);
        };
        if let Some(error) = &sent.failed {
            return Err(error.clone());
        }
        let mut durable = None;
        while let Some((number, next)) = sent.batches.front().copied()
            && number <= acked
        {
            durable = Some(next);
            sent.batches.pop_front();
        }
        Ok(durable)
    }

    fn failure(&self) -> BrokerError {
        let failed = self.sent.lock().ok().and_then(|sent| sent.failed.clone());
        failed.unwrap_or(BrokerError::Stopped)
    }
}

async fn work<L: Lane>(
    mut inbox: mpsc::Receiver<Order>,
    clean: L,
    dead: L,
    sent: Arc<Mutex<Sent>>,
) {
    let mut last = 0;
    while let Some(order) = inbox.recv().await {
        let done = match order {
            Order::Send(parcel) => send(&clean, &dead, *parcel, &mut last, &sent).await,
            Order::Flush(answer) => {
                // Whoever asked and went needs no answer.
                let _ = answer.send(clean.wait(last).await);
                Ok(())
            }
        };
        if let (Err(error), Ok(mut sent)) = (done, sent.lock()) {
            sent.failed = Some(error);
            return;
        }
    }
}

async fn send<L: Lane>(
    clean: &L,
    dead: &L,
    parcel: Parcel,
    last: &mut u64,
    sent: &Mutex<Sent>,
) -> Result<(), BrokerError> {
    dead.wait(parcel.after_letter).await?;
    let headers: Vec<(&str, &[u8])> = parcel
        .headers
        .iter()
        .map(|(name, value)| (*name, value.as_slice()))
        .collect();
    *last = clean
        .send(Outgoing {
            key: None,
            value: &parcel.payload,
            headers: &headers,
        })
        .await?;
    if let Ok(mut sent) = sent.lock() {
        sent.batches.push_back((*last, parcel.next));
    }
    Ok(())
}

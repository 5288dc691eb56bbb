//! `/livez`, `/readyz` and `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use telemetry::Telemetry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A stage that has not finished a batch or a tick for this long is not alive.
const STALL_MAX: Duration = Duration::from_secs(60);

/// How the process is; shared between the loop and the page.
#[derive(Clone)]
pub struct Health {
    inner: Arc<Inner>,
}

struct Inner {
    started: Instant,
    ready: AtomicBool,
    beat_ms: AtomicU64,
}

impl Default for Health {
    fn default() -> Self {
        let inner = Inner {
            started: Instant::now(),
            ready: AtomicBool::new(false),
            beat_ms: AtomicU64::new(0),
        };
        Health {
            inner: Arc::new(inner),
        }
    }
}

impl Health {
    /// Says that the stage has its partitions, or no longer.
    pub fn ready(&self, ready: bool) {
        self.inner.ready.store(ready, Ordering::Relaxed);
    }

    /// Says that the loop went round.
    pub fn beat(&self) {
        let elapsed = self.inner.started.elapsed().as_millis() as u64;
        self.inner.beat_ms.store(elapsed, Ordering::Relaxed);
    }

    fn alive(&self) -> bool {
        let beat = Duration::from_millis(self.inner.beat_ms.load(Ordering::Relaxed));
        self.inner.started.elapsed().saturating_sub(beat) < STALL_MAX
    }
}

#[derive(Clone)]
struct Page {
    health: Health,
    telemetry: Arc<Telemetry>,
}

/// Serves the pages until the token is cancelled; returns the address bound.
pub(crate) async fn serve(
    listen: SocketAddr,
    health: Health,
    telemetry: Arc<Telemetry>,
    shutdown: CancellationToken,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let page = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Page { health, telemetry });
    let served = axum::serve(listener, page)
        .with_graceful_shutdown(async move { shutdown.cancelled().await });
    tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::warn!(%error, "the health page stopped");
        }
    });
    Ok(address)
}

async fn livez(State(page): State<Page>) -> (StatusCode, &'static str) {
    if page.health.alive() {
        (StatusCode::OK, "alive\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stalled\n")
    }
}

async fn readyz(State(page): State<Page>) -> (StatusCode, &'static str) {
    if page.health.inner.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "waiting for partitions\n")
    }
}

async fn metrics(State(page): State<Page>) -> (StatusCode, String) {
    match page.telemetry.prometheus_text() {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

//! Starts the broker, accepts connections, and stops it: what is under way ends, then everything is synced.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::config::{Config, DRAIN_DEADLINE};
use crate::error::BrokerError;
use crate::net;
use crate::services::{Peer, Services};
use crate::upkeep;

/// How long to wait after the system refused a connection, for want of file descriptors say.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// The embedded broker.
#[derive(Debug)]
pub struct Broker;

/// A broker that runs; dropping it stops the broker without a sync, as a crash would.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    services: Arc<Services>,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    alarm: JoinHandle<()>,
    upkeep: JoinHandle<()>,
}

impl Broker {
    /// Opens the folder, listens, and returns when clients can connect.
    ///
    /// # Errors
    /// If the folder or the address cannot be used.
    pub async fn start(config: Config) -> Result<Running, BrokerError> {
        let address = config.listen;
        let services = Arc::new(Services::open(config)?);
        let listen = |source| BrokerError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let (stop, stopping) = watch::channel(false);
        let accepting = tokio::spawn(accept(Arc::clone(&services), listener, stopping));
        let grouped = Arc::clone(&services);
        let alarm = tokio::spawn(async move { grouped.groups.run().await });
        let upkeep = tokio::spawn(upkeep::run(Arc::clone(&services)));
        info!(%address, folder = %services.folder.path().display(), "broker listens");
        Ok(Running {
            address,
            services,
            stop,
            accepting,
            alarm,
            upkeep,
        })
    }
}

impl Running {
    /// Returns the address that clients can connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets the requests under way end, then syncs everything.
    ///
    /// # Errors
    /// If something could not be synced.
    pub async fn shutdown(mut self) -> Result<(), BrokerError> {
        self.stop.send_replace(true);
        // Every connection has its own deadline; this one is for the case that one does not keep it.
        if timeout(DRAIN_DEADLINE * 2, &mut self.accepting)
            .await
            .is_err()
        {
            warn!("some connections did not end in time");
        }
        self.upkeep.abort();
        let services = Arc::clone(&self.services);
        let closed = tokio::task::spawn_blocking(move || services.close()).await;
        info!("broker stopped");
        closed.unwrap_or(Ok(()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.accepting.abort();
        self.alarm.abort();
        self.upkeep.abort();
    }
}

/// Accepts connections until the broker stops, then waits for those that are open.
async fn accept(
    services: Arc<Services>,
    listener: TcpListener,
    mut stopping: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let connections_max = services.config.limits.connections_max;
    let peer_stopping = stopping.clone();
    loop {
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    error!(%error, "a connection panicked; the others go on");
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let connected = accepted.and_then(|(stream, remote)| {
            let peer = Peer {
                remote,
                local: stream.local_addr()?,
                stopping: peer_stopping.clone(),
            };
            Ok((stream, peer))
        });
        match connected {
            Ok((_, peer)) if connections_max <= connections.len() => {
                warn!(peer = %peer.remote, connections_max, "refused a connection: too many are open");
            }
            Ok((stream, peer)) => spawn(&mut connections, &services, stream, peer),
            Err(error) => {
                warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

fn spawn(connections: &mut JoinSet<()>, services: &Arc<Services>, stream: TcpStream, peer: Peer) {
    connections.spawn(net::serve(Arc::clone(services), stream, peer));
}

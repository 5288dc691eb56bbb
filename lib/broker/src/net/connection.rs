//! One connection: a request is read, answered and only then followed by the next, so answers are in order and one
//! connection never holds more than one request.
//!
//! Whatever a client sends that is not a request ends its connection, with the reason in the log.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::frame::{FrameError, Frames};
use crate::api;
use crate::config::{DRAIN_DEADLINE, TRANSFER_DEADLINE};
use crate::services::{Peer, Services};

/// Serves one connection until either side ends it.
pub async fn serve(services: Arc<Services>, mut stream: TcpStream, mut peer: Peer) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(peer = %peer.remote, %error, "could not switch Nagle's algorithm off");
    }
    let mut frames = Frames::new(
        services.config.limits.produce_bytes_max,
        Arc::clone(&services.frame_budget),
        TRANSFER_DEADLINE,
    );
    loop {
        let mut stopping = peer.stopping.clone();
        let frame = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => return,
            frame = frames.next(&mut stream) => frame,
        };
        let frame = match frame {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            Err(FrameError::Read(error)) => {
                debug!(peer = %peer.remote, %error, "a connection broke");
                return;
            }
            Err(error) => {
                warn!(peer = %peer.remote, %error, "closed a connection");
                return;
            }
        };
        let response = match api::answer(&services, &mut peer, frame.bytes.clone()).await {
            Ok(Some(response)) => response,
            Ok(None) => continue,
            Err(refusal) => {
                warn!(peer = %peer.remote, %refusal, "closed a connection");
                return;
            }
        };
        let is_stopping = *peer.stopping.borrow();
        let sent = match is_stopping {
            true => timeout(DRAIN_DEADLINE, response.send(&mut stream))
                .await
                .unwrap_or(Ok(())),
            false => response.send(&mut stream).await,
        };
        if let Err(error) = sent {
            debug!(peer = %peer.remote, %error, "could not send an answer");
            return;
        }
    }
}

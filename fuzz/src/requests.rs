//! Requests to the broker: frames with their length before them (4 bytes), as they come on one connection.
//!
//! A request is answered, or the connection ends; whatever came before, the broker still serves the next client.

use std::sync::Arc;

use broker::Config;
use broker::api::answer;
use broker::net::Frames;
use broker::services::{Peer, Services};
use bytes::Bytes;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Duration, timeout};

/// CreateTopics in version 2: a topic `t` of one partition.
const CREATE: &[u8] =
    b"\0\x13\0\x02\0\0\0\x07\xff\xff\0\0\0\x01\0\x01t\0\0\0\x01\0\x01\0\0\0\0\0\0\0\0\0\0\x03\xe8\0";

/// Metadata of everything, in version 1.
const ASK: &[u8] = b"\0\x03\0\x01\0\0\0\x09\xff\xff\xff\xff\xff\xff";

/// Longer than any frame takes to be read from memory.
const DEADLINE: Duration = Duration::from_secs(60);

/// Serves a connection.
pub fn run(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime can be made");
    runtime.block_on(serve(data));
}

async fn serve(mut data: &[u8]) {
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    let mut config = Config::new(folder.path(), ([127, 0, 0, 1], 0).into());
    config.limits.partitions_max = 4;
    config.limits.groups_max = 4;
    config.limits.group_members_max = 4;
    let services = Services::open(config).expect("an empty folder opens");
    let (_stop, stopping) = watch::channel(false);
    let address = ([127, 0, 0, 1], 9092).into();
    let mut peer = Peer {
        remote: address,
        local: address,
        stopping,
    };
    let created = answer(&services, &mut peer, Bytes::from_static(CREATE)).await;
    assert!(matches!(created, Ok(Some(_))) && services.catalog.by_name("t").is_some());
    let budget = Arc::new(Semaphore::new(1 << 20));
    let mut frames = Frames::new(1 << 20, budget, DEADLINE);
    while let Ok(Some(frame)) = frames.next(&mut data).await {
        // A client does not wait here: it hangs up.
        let answered = answer(&services, &mut peer, frame.bytes.clone());
        if !matches!(timeout(Duration::ZERO, answered).await, Ok(Ok(_))) {
            break;
        }
    }
    let asked = answer(&services, &mut peer, Bytes::from_static(ASK)).await;
    assert!(
        matches!(asked, Ok(Some(_))),
        "the broker serves nobody any more"
    );
    services.close().expect("everything can be stored");
}

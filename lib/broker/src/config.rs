//! What a broker is told before it starts, and the bounds that it keeps.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Kafka's own default for `max.message.bytes`.
pub const MESSAGE_BYTES_MAX: usize = 1_048_588;

/// How much a segment holds: little enough that the check after a crash takes 10 ms a partition, if so much.
pub const SEGMENT_BYTES: u64 = 32 * 1024 * 1024;

/// How large a produce request may be: room for `max.message.bytes` raised to several MiB.
pub const PRODUCE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How many bytes of large requests are in work at once; more clients wait their turn.
pub const FRAMES_BYTES_MAX: usize = 2 * PRODUCE_BYTES_MAX;

/// How large any other request may be: the largest carries the assignments of a group.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// How many array elements a request may have, whatever its size: each costs about 100 bytes decoded.
pub const REQUEST_ELEMENTS_MAX: usize = 50_000;

/// How many connections are open at once; a client has two or three.
pub const CONNECTIONS_MAX: usize = 500;

/// How many partitions exist, all topics together; each holds one file open.
pub const PARTITIONS_MAX: usize = 2_000;

/// How many consumer groups exist at once.
pub const GROUPS_MAX: usize = 1_000;

/// How many members one group has, and how many more may be about to join.
pub const GROUP_MEMBERS_MAX: usize = 250;

/// Partitions of a topic whose creator leaves the number to the broker.
pub const PARTITIONS_DEFAULT: i32 = 1;

/// How often retention and compaction look at the topics that want them: Kafka's own pause of its cleaner.
pub const UPKEEP_EVERY: Duration = Duration::from_secs(15);

/// How long a client may take to send the rest of a request or to read an answer.
pub const TRANSFER_DEADLINE: Duration = Duration::from_secs(30);

/// How long the answers that are under way at shutdown may take.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// The address that clients are told to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// The bounds that a broker keeps.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of a batch, unless the topic's `max.message.bytes` says otherwise.
    pub message_bytes_max: usize,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Bytes of a produce request.
    pub produce_bytes_max: usize,
    /// Bytes of large requests in work at once.
    pub frames_bytes_max: usize,
    /// Connections open at once.
    pub connections_max: usize,
    /// Partitions of all topics together.
    pub partitions_max: usize,
    /// Consumer groups.
    pub groups_max: usize,
    /// Members of one group.
    pub group_members_max: usize,
}

impl Limits {
    /// Returns the documented constants.
    pub const fn standard() -> Self {
        Self {
            message_bytes_max: MESSAGE_BYTES_MAX,
            segment_bytes: SEGMENT_BYTES,
            produce_bytes_max: PRODUCE_BYTES_MAX,
            frames_bytes_max: FRAMES_BYTES_MAX,
            connections_max: CONNECTIONS_MAX,
            partitions_max: PARTITIONS_MAX,
            groups_max: GROUPS_MAX,
            group_members_max: GROUP_MEMBERS_MAX,
        }
    }
}

/// What a broker is told before it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// Everything that the broker keeps lies in this folder; it is created if missing.
    pub folder: PathBuf,
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// What clients are told; by default the address that they connected to.
    pub advertised: Option<Advertised>,
    /// Whether asking for an unknown topic creates it, with this many partitions.
    pub auto_create_partitions: Option<i32>,
    /// How often retention and compaction look at the topics that want them.
    pub upkeep_every: Duration,
    /// The bounds.
    pub limits: Limits,
}

impl Config {
    /// Returns a configuration with the documented constants: no topics of their own accord, standard limits.
    pub fn new(folder: impl Into<PathBuf>, listen: SocketAddr) -> Self {
        Self {
            folder: folder.into(),
            listen,
            advertised: None,
            auto_create_partitions: None,
            upkeep_every: UPKEEP_EVERY,
            limits: Limits::standard(),
        }
    }
}

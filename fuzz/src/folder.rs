//! A broker's folder as a crash, or somebody else, left it: flags, then files, each with its length before it.
//!
//! The broker refuses the folder, or cuts what is torn; then every read comes to an end with whole batches, and a clean
//! stop leaves what can be opened again.

use std::os::unix::fs::FileExt;
use std::path::Path;

use broker::Config;
use broker::log::Log;
use broker::log::batch::BatchHeader;
use broker::services::Services;
use broker::topic::Partition;

/// Files of a folder with a topic `t`: the second segment begins at the offset 2.
pub const FILES: [&str; 9] = [
    "topics/t/0/00000000000000000000.index",
    "topics/t/0/00000000000000000002.index",
    "topics/t/0/cleaned",
    "topics/t/0/start",
    "topics/t/topic",
    "offsets",
    "producers",
    "topics/t/0/00000000000000000000.log",
    "topics/t/0/00000000000000000002.log",
];

/// Largest batch that is read.
const BYTES_MAX: u64 = 1 << 20;

/// A time after everything, in milliseconds.
const LATE_MS: i64 = 1 << 50;

/// Opens the folder.
pub fn run(mut data: &[u8]) {
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    let path = folder.path();
    std::fs::create_dir_all(path.join("topics/t/0")).expect("the folder can be made");
    let flags = data.split_off_first().copied().unwrap_or(0);
    for name in FILES {
        let mut file = super::part(&mut data).to_vec();
        match name {
            _ if flags & 1 == 0 => {}
            _ if name.ends_with(".log") => mend_log(&mut file),
            _ if name.ends_with(".index") => mend_index(&mut file),
            _ => {}
        }
        if !file.is_empty() {
            std::fs::write(path.join(name), file).expect("the file can be written");
        }
    }
    let Some(end) = open(path, flags) else {
        return;
    };
    let again = open(path, 0);
    assert!(
        flags & 2 != 0 || again == Some(end),
        "a clean stop left what cannot be opened"
    );
}

/// Opens the folder, uses all of it, and stops; returns where the partition ends.
fn open(path: &Path, flags: u8) -> Option<i64> {
    let mut config = Config::new(path, ([127, 0, 0, 1], 0).into());
    config.limits.segment_bytes = 256;
    let services = Services::open(config).ok()?;
    let _ = services.producer_ids.next();
    for group in services.offsets.groups() {
        assert!(!services.offsets.all(&group).is_empty());
    }
    let topic = services.catalog.by_name("t")?;
    let partition = topic.partition(0)?;
    let end = read_all(partition)?;
    if flags & 2 != 0 {
        let _ = (partition.compact(LATE_MS), partition.expire(LATE_MS));
        let _ = (read_all(partition), partition.delete_before(1));
    }
    services.close().ok()?;
    Some(end)
}

/// Reads a partition to its end; `None` if something of it cannot be read.
fn read_all(partition: &Partition) -> Option<i64> {
    for time in [0, 1, i64::MAX] {
        let _ = partition.read(|log| log.first_since(time));
    }
    let _ = partition.read(Log::newest);
    let mut at = partition.read(|log| Ok(log.start_offset())).ok()?;
    while let Some(slice) = partition.read(|log| log.read(at, 100, BYTES_MAX)).ok()? {
        let mut batches = vec![0; slice.bytes as usize];
        slice
            .file
            .read_exact_at(&mut batches, slice.position)
            .ok()?;
        let mut rest = &batches[..];
        while !rest.is_empty() {
            let header = BatchHeader::parse(rest)?;
            rest = rest.split_at_checked(header.bytes as usize)?.1;
            if header.next_offset() <= at {
                return None; // offsets that fall are not read either
            }
            at = header.next_offset();
        }
    }
    partition.read(|log| Ok(log.end_offset())).ok()
}

/// Makes the checksum of each batch right, as far as their lengths lead through the file.
fn mend_log(file: &mut [u8]) {
    let mut rest = file;
    while let Some(header) = BatchHeader::parse(rest) {
        let Some((batch, tail)) = rest.split_at_mut_checked(header.bytes as usize) else {
            return;
        };
        super::batch::mend(batch);
        rest = tail;
    }
}

/// Makes the checksum of an index right.
fn mend_index(file: &mut [u8]) {
    if let Some(place) = file.get_mut(60..64) {
        place.fill(0);
        let checksum = crc32c::crc32c(file);
        file[60..64].copy_from_slice(&checksum.to_be_bytes());
    }
}

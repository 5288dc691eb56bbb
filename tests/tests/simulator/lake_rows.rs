//! The lake, read by Delta's log as any reader does.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

/// Where the table's log lies.
const LOG: &str = "s/_delta_log";

async fn entry(store: &InMemory, version: usize) -> Option<Bytes> {
    let path = Path::from(format!("{LOG}/{version:020}.json"));
    store.get(&path).await.ok()?.bytes().await.ok()
}

/// What the log of the table says.
#[derive(Default)]
pub struct Lake {
    /// The next version to read.
    next: usize,
    files: Vec<String>,
    /// The last raw offset that has landed, by partition.
    landed: BTreeMap<i32, i64>,
}

impl Lake {
    /// Reads what the log has come to since the last time.
    ///
    /// # Errors
    /// A log with a hole, or with offsets that go back.
    pub async fn read_on(&mut self, store: &InMemory) -> Result<(), String> {
        while let Some(bytes) = entry(store, self.next).await {
            for line in bytes.split(|byte| *byte == b'\n') {
                if let Ok(action) = serde_json::from_slice::<Value>(line) {
                    self.take(self.next, &action)?;
                }
            }
            self.next += 1;
        }
        match entry(store, self.next + 1).await {
            Some(_) => Err(format!("the lake's log has no version {}", self.next)),
            None => Ok(()),
        }
    }

    fn take(&mut self, version: usize, action: &Value) -> Result<(), String> {
        if let Some(path) = action["add"]["path"].as_str() {
            self.files.push(path.to_owned());
        }
        let (name, landed) = (&action["txn"]["appId"], &action["txn"]["version"]);
        let (Some(name), Some(landed)) = (name.as_str(), landed.as_i64()) else {
            return Ok(());
        };
        let at = name.rsplit('/').next().and_then(|at| at.parse().ok());
        let at = at.ok_or_else(|| format!("{name} names a partition"))?;
        match self.landed.insert(at, landed) {
            Some(before) if landed <= before => Err(format!(
                "offsets never go back: version {version} of the lake says that raw {at} has landed up to \
                 {landed}, after {before}"
            )),
            _ => Ok(()),
        }
    }

    /// Returns the last raw offset of a partition that has landed.
    pub fn landed(&self, partition: i32) -> Option<i64> {
        self.landed.get(&partition).copied()
    }

    /// Returns partition and raw offset of every row.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub async fn rows(&self, store: &InMemory) -> Result<Vec<(i32, i64)>, String> {
        let mut rows = Vec::new();
        for file in &self.files {
            let path = Path::from(format!("s/{file}"));
            let read = async {
                let bytes = store.get(&path).await.ok()?.bytes().await.ok()?;
                let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).ok()?;
                let columns = ["_source_partition", "_source_offset"];
                let mask = ProjectionMask::columns(builder.parquet_schema(), columns);
                builder.with_projection(mask).build().ok()
            };
            let reader = read.await;
            for batch in reader.ok_or_else(|| format!("{file} cannot be read"))? {
                let batch = batch.map_err(|error| format!("{file} cannot be read: {error}"))?;
                let partitions = batch.column(0).as_primitive::<Int32Type>().values();
                let offsets = batch.column(1).as_primitive::<Int64Type>().values();
                rows.extend(partitions.iter().copied().zip(offsets.iter().copied()));
            }
        }
        Ok(rows)
    }
}

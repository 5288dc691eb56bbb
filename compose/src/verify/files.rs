//! Files of a folder or an object store, for threads that wait: names go in; bytes and columns come out.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow_array::RecordBatch;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::{
    AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder,
};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use tokio::runtime::Runtime;
use worker::Store;

/// Files that are fetched at a time.
const FETCHES: usize = 16;

/// Bytes at the end of a file that come with the first request: footer and page index of most files.
const FOOTER_BYTES: usize = 64 << 10;

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 65_536;

/// A folder or a part of an object store. Nothing is written to it.
#[derive(Clone)]
pub(super) struct Files {
    store: Store,
    place: String,
    runtime: Arc<Runtime>,
}

impl Files {
    /// Opens a folder, which must be there, or what a URL names.
    ///
    /// # Errors
    /// A place that no store answers to.
    pub(super) fn open(place: &str) -> Result<Files> {
        ensure!(!Store::is_missing(place), "there is no folder {place}");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        Ok(Files {
            store: Store::open(place)?,
            place: place.to_owned(),
            runtime: Arc::new(runtime.context("cannot make a runtime")?),
        })
    }

    /// Returns a folder in it.
    pub(super) fn below(&self, folder: &str) -> Files {
        Files {
            store: self.store.below(folder),
            place: format!("{}/{folder}", self.place.trim_end_matches('/')),
            runtime: self.runtime.clone(),
        }
    }

    /// Returns the names of the files right in it, in order; none if there is no such folder.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let prefix = &self.store.prefix;
        let listed = self.store.objects.list_with_delimiter(Some(prefix));
        let listed = self.runtime.block_on(listed);
        let listed = listed.with_context(|| format!("cannot look into {self}"))?;
        let mut names: Vec<String> = listed
            .objects
            .iter()
            .filter_map(|object| object.location.filename().map(str::to_owned))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Reads a file.
    pub(super) fn read(&self, name: &str) -> Result<Bytes> {
        self.runtime.block_on(self.fetch(name))
    }

    /// Reads some files, as many at a time as a far store wants; they come in the order of their names.
    pub(super) fn read_each(
        &self,
        names: &[String],
        mut take: impl FnMut(&str, Bytes) -> Result<()>,
    ) -> Result<()> {
        let fetched = futures::stream::iter(names)
            .map(|name| async move { Ok((name, self.fetch(name).await?)) })
            .buffered(FETCHES)
            .try_for_each(|(name, bytes)| std::future::ready(take(name, bytes)));
        self.runtime.block_on(fetched)
    }

    async fn fetch(&self, name: &str) -> Result<Bytes> {
        let cannot = || format!("cannot read {self}/{name}");
        let found = self.store.objects.get(&self.store.path(name)).await;
        let read = found.with_context(cannot)?.bytes().await;
        read.with_context(cannot)
    }

    /// Opens a Parquet file for some of its columns; of a far store, only these are fetched.
    pub(super) fn columns(&self, name: &str, columns: &[&str]) -> Result<Columns<'_>> {
        let path = self.store.path(name);
        let opened = async {
            let bytes = self.store.objects.head(&path).await?.size;
            let object = Object {
                store: self.store.objects.clone(),
                path,
                bytes,
            };
            let builder = ParquetRecordBatchStreamBuilder::new(object).await?;
            let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
            let builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
            anyhow::Ok((bytes, builder.build()?))
        };
        let (bytes, stream) = self.runtime.block_on(opened)?;
        Ok(Columns {
            bytes,
            stream,
            runtime: &self.runtime,
        })
    }
}

impl fmt::Display for Files {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.place)
    }
}

/// Columns of a file, some rows at a time.
pub(super) struct Columns<'a> {
    /// Bytes of the whole file.
    pub(super) bytes: u64,
    stream: ParquetRecordBatchStream<Object>,
    runtime: &'a Runtime,
}

impl Iterator for Columns<'_> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        let next = self.runtime.block_on(self.stream.next())?;
        Some(next.map_err(anyhow::Error::from))
    }
}

/// An object of which Parquet reads parts.
struct Object {
    store: Arc<dyn ObjectStore>,
    path: Path,
    bytes: u64,
}

impl AsyncFileReader for Object {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        let read = self.store.get_range(&self.path, range);
        read.map_err(outside).boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        let read = async move { self.store.get_ranges(&self.path, &ranges).await };
        read.map_err(outside).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let bytes = self.bytes;
        let reader = ParquetMetaDataReader::new()
            .with_arrow_reader_options(options)
            .with_prefetch_hint(Some(FOOTER_BYTES));
        reader.load_and_finish(self, bytes).map_ok(Arc::new).boxed()
    }
}

fn outside(error: Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

/// Says whether an error is that a file is not there.
pub(super) fn is_missing(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<Error>())
        .any(|error| matches!(error, Error::NotFound { .. }))
}

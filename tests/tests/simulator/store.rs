//! The object store and the key store of a world: requests that fail before or after their effect, take time, or
//! arrive although whoever sent them is gone.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::ThreadId;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use seal::{KeyRecord, KeyStore, MakeKey, MemoryKeyStore, SealError, SubjectRef, WrappedKey};
use worker::{Dice, Story};

use super::sabotage::Sabotage;

/// How long a request takes, in milliseconds.
const REQUEST_MS: u64 = 30;

/// How late a request may arrive at the store, once in a while.
const LATE_MS: u64 = 2_500;

/// What goes wrong, and who hears of it; clones are the same.
#[derive(Clone)]
pub struct Trouble {
    pub dice: Dice,
    pub story: Story,
    pub sabotage: Sabotage,
    per_mille: Arc<AtomicU64>,
    /// Whether the sabotage is done already.
    done: Arc<AtomicBool>,
}

impl Trouble {
    /// Makes so many of a thousand requests fail.
    pub fn new(dice: Dice, story: Story, sabotage: Sabotage, per_mille: u64) -> Trouble {
        Trouble {
            dice,
            story,
            sabotage,
            per_mille: Arc::new(AtomicU64::new(per_mille)),
            done: Arc::default(),
        }
    }

    /// Nothing goes wrong any more.
    pub fn end(&self) {
        self.per_mille.store(0, Ordering::Relaxed);
    }

    /// Says whether this is the once that something must be spoilt.
    pub fn spoils(&self, sabotage: Sabotage) -> bool {
        self.sabotage == sabotage && !self.done.swap(true, Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.per_mille.load(Ordering::Relaxed) == 0
    }

    fn strikes(&self) -> bool {
        self.dice.happens(self.per_mille.load(Ordering::Relaxed))
    }
}

/// An object store in memory.
#[derive(Clone)]
pub struct SimulatedStore {
    name: &'static str,
    pub inner: Arc<InMemory>,
    trouble: Trouble,
    /// Where time is simulated: Delta reads from threads of its own, too.
    home: ThreadId,
    /// Whether what Delta reads in its threads fails. Nothing is left to chance there: who rolls the dice first would be.
    fails_abroad: bool,
}

impl SimulatedStore {
    /// Makes an empty store.
    pub fn new(name: &'static str, trouble: Trouble) -> SimulatedStore {
        SimulatedStore {
            name,
            inner: Arc::new(InMemory::new()),
            trouble,
            home: std::thread::current().id(),
            fails_abroad: false,
        }
    }

    /// Returns the store as Delta's threads see it in the next thing that they do.
    pub fn abroad(&self) -> SimulatedStore {
        let fails_abroad = self.trouble.strikes();
        if fails_abroad {
            let name = self.name;
            self.trouble
                .story
                .tell(format_args!("{name} store: Delta cannot read"));
        }
        SimulatedStore {
            fails_abroad,
            ..self.clone()
        }
    }

    fn is_abroad(&self) -> bool {
        std::thread::current().id() != self.home
    }

    async fn linger(&self) {
        if !self.trouble.is_over() {
            tokio::time::sleep(self.trouble.dice.millis(0..=REQUEST_MS)).await;
        }
    }

    fn fail(&self, what: &str, path: &dyn fmt::Display) -> Error {
        self.trouble
            .story
            .tell(format_args!("{} store: {what}", self.name));
        Error::Generic {
            store: "simulated",
            source: format!("{what}: {path}").into(),
        }
    }

    async fn ask(&self, what: &str, path: &Path) -> Result<()> {
        if self.is_abroad() {
            return self.ask_abroad();
        }
        self.linger().await;
        match self.trouble.strikes() {
            true => Err(self.fail(what, path)),
            false => Ok(()),
        }
    }
}

impl SimulatedStore {
    fn ask_abroad(&self) -> Result<()> {
        match self.fails_abroad {
            true => Err(Error::Generic {
                store: "simulated",
                source: "Delta cannot read".into(),
            }),
            false => Ok(()),
        }
    }
}

impl fmt::Display for SimulatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} store", self.name)
    }
}

impl fmt::Debug for SimulatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns what is stored in place of what was given.
fn spoil(trouble: &Trouble, path: &Path, payload: PutPayload) -> Option<PutPayload> {
    let path = path.as_ref();
    let is_commit = path.contains("_delta_log/") && !path.ends_with("00000.json");
    if is_commit && trouble.spoils(Sabotage::DropLakeCommit) {
        return None;
    }
    if path.ends_with(".safetensors") && trouble.sabotage == Sabotage::ChangeCheckpoint {
        return Some(super::sabotage::change_checkpoint(payload));
    }
    Some(payload)
}

#[async_trait::async_trait]
impl ObjectStore for SimulatedStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if self.is_abroad() {
            self.ask_abroad()?;
            return self.inner.put_opts(location, payload, options).await;
        }
        if self.trouble.strikes() {
            self.linger().await;
            return Err(self.fail("a put does not arrive", location));
        }
        let Some(payload) = spoil(&self.trouble, location, payload) else {
            let (e_tag, version) = Default::default();
            return Ok(PutResult { e_tag, version });
        };
        // A request that is on its way arrives, whatever becomes of its sender.
        let (store, path) = (self.clone(), location.clone());
        let late = self.trouble.strikes();
        let request = tokio::spawn(async move {
            if late {
                tokio::time::sleep(store.trouble.dice.millis(0..=LATE_MS)).await;
            }
            store.linger().await;
            store.inner.put_opts(&path, payload, options).await
        });
        let done = request
            .await
            .map_err(|error| self.fail("a put is torn", &error))?;
        self.linger().await;
        if self.trouble.strikes() {
            return Err(self.fail("the answer to a put is lost", location));
        }
        done
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.ask("a get fails", location).await?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.ask("a get fails", location).await?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.is_abroad() {
            return match self.ask_abroad() {
                Ok(()) => self.inner.list(prefix),
                Err(error) => futures::stream::once(async move { Err(error) }).boxed(),
            };
        }
        if self.trouble.strikes() {
            let error = self.fail("a list fails", &"");
            return futures::stream::once(async move { Err(error) }).boxed();
        }
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.ask("a list fails", prefix.unwrap_or(&Path::default()))
            .await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.ask("a copy fails", from).await?;
        self.inner.copy_opts(from, to, options).await
    }
}

/// A key store in memory, whose calls may fail before or after their effect.
pub struct SimulatedKeys {
    pub inner: Arc<MemoryKeyStore>,
    pub trouble: Trouble,
}

impl SimulatedKeys {
    fn ask(&self, what: &str) -> std::result::Result<(), SealError> {
        if !self.trouble.strikes() {
            return Ok(());
        }
        self.trouble.story.tell(format_args!("key store: {what}"));
        let reason = what.to_owned();
        Err(SealError::Store { reason })
    }
}

impl KeyStore for SimulatedKeys {
    fn get(&self, subject: SubjectRef) -> std::result::Result<Option<KeyRecord>, SealError> {
        self.ask("a get fails")?;
        self.inner.get(subject)
    }

    fn get_or_create(
        &self,
        subjects: &[SubjectRef],
        make: &mut MakeKey<'_>,
    ) -> std::result::Result<Vec<WrappedKey>, SealError> {
        self.ask("keys are not made")?;
        let keys = self.inner.get_or_create(subjects, make)?;
        self.ask("keys are made, and the answer is lost")?;
        Ok(keys)
    }

    fn destroy(&self, subject: SubjectRef) -> std::result::Result<bool, SealError> {
        self.inner.destroy(subject)
    }

    fn destroyed(&self) -> std::result::Result<u64, SealError> {
        self.inner.destroyed()
    }
}

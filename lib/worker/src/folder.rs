//! A folder as an object store whose objects outlive a power failure.
//!
//! ```text
//! put ─► NAME#123 written ─► synced ─► linked or renamed to NAME ─► the folders above it synced ─► answered
//! ```
//!
//! `object_store`'s own file system leaves it to the kernel when bytes reach the disk: after a power failure a name
//! may be there whose bytes are not, or a whole folder be missing, although the put was answered long ago. Here an
//! object gets its name only once its bytes are on the disk, and a put returns only once the name is there too.
//! So what is stored in order lies on the disk in that order: files, the commit that names them, the offset.
//!
//! Reading is `object_store`'s, which hides names such as `NAME#123`. A process that is killed in the middle of a put
//! leaves one behind; [`crate::sweep()`] takes those away. A delete is not synced: one that comes undone is done again.

use std::fmt;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result, UploadPart,
};
use tokio::runtime::Handle;

/// Makes the bytes of a file, or the names in a folder, outlive a power failure.
type Sync = dyn Fn(&File, &FilePath) -> io::Result<()> + Send + std::marker::Sync;

/// The object store of one folder; paths are those of the whole machine.
#[derive(Clone)]
pub(crate) struct Folder {
    inner: LocalFileSystem,
    root: PathBuf,
    sync: Arc<Sync>,
}

impl Folder {
    /// Opens a folder, which is made if it is missing.
    ///
    /// # Errors
    /// The system's.
    pub fn open(root: &FilePath) -> io::Result<Folder> {
        Folder::open_with(root, Arc::new(|file, _| sync(file)))
    }

    fn open_with(root: &FilePath, sync: Arc<Sync>) -> io::Result<Folder> {
        let root = std::path::absolute(root)?;
        let missing = root.ancestors().take_while(|folder| !folder.exists());
        let made_in: Vec<&FilePath> = missing.filter_map(FilePath::parent).collect();
        fs::create_dir_all(&root)?;
        let folder = Folder {
            inner: LocalFileSystem::new(),
            root: root.canonicalize()?,
            sync,
        };
        made_in
            .into_iter()
            .try_for_each(|it| folder.sync_path(it))?;
        Ok(folder)
    }

    /// Returns the folder's absolute path.
    pub fn root(&self) -> &FilePath {
        &self.root
    }

    fn file(&self, location: &Path) -> Result<PathBuf> {
        self.inner.path_to_filesystem(location)
    }

    fn sync_path(&self, path: &FilePath) -> io::Result<()> {
        (self.sync)(&File::open(path)?, path)
    }

    /// Makes the name of a file outlive a power failure, and those of the folders that it is in: whoever made one
    /// may not have come so far. Where nothing is new it costs the flush of an empty queue.
    fn sync_name(&self, file: &FilePath) -> io::Result<()> {
        let above = file.ancestors().skip(1);
        let mut ours = above.take_while(|folder| folder.starts_with(&self.root));
        ours.try_for_each(|folder| self.sync_path(folder))
    }

    async fn sync_names(&self, locations: &[&Path]) -> Result<()> {
        let files: Result<Vec<PathBuf>> = locations.iter().map(|path| self.file(path)).collect();
        let (folder, files) = (self.clone(), files?);
        blocking(move || {
            let synced = files.iter().try_for_each(|file| folder.sync_name(file));
            synced.map_err(failed)
        })
        .await
    }
}

impl fmt::Debug for Folder {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_tuple("Folder").field(&self.root).finish()
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "folder {}", self.root.display())
    }
}

#[async_trait]
impl ObjectStore for Folder {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let (folder, file) = (self.clone(), self.file(location)?);
        blocking(move || {
            let staged = Staged::new(folder, file)?;
            staged.write(&payload, 0)?;
            staged.publish(&options.mode)
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let (folder, file) = (self.clone(), self.file(location)?);
        let staged = blocking(move || Staged::new(folder, file)).await?;
        Ok(Box::new(Upload {
            staged: Arc::new(staged),
            bytes: 0,
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        self.sync_names(&[to]).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await?;
        self.sync_names(&[to, from]).await
    }
}

/// An object on its way: a file of a name that listings hide, until it is published.
struct Staged {
    folder: Folder,
    /// Where the object will be.
    file: PathBuf,
    /// Where it is meanwhile.
    path: PathBuf,
    open: File,
}

impl Staged {
    fn new(folder: Folder, file: PathBuf) -> Result<Staged> {
        let mut path = file.clone().into_os_string();
        path.push(format!("#{}", RandomState::new().hash_one(&file)));
        let path = PathBuf::from(path);
        let open = match File::create_new(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let made = path.parent().map_or(Ok(()), fs::create_dir_all);
                made.and_then(|()| File::create_new(&path))
            }
            open => open,
        };
        Ok(Staged {
            folder,
            file,
            path,
            open: open.map_err(failed)?,
        })
    }

    fn write(&self, payload: &PutPayload, mut at: u64) -> Result<()> {
        for part in payload {
            self.open.write_all_at(part, at).map_err(failed)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Gives the object its name, and returns when no power failure can take it any more.
    fn publish(&self, mode: &PutMode) -> Result<PutResult> {
        (self.folder.sync)(&self.open, &self.path).map_err(failed)?;
        let named = match mode {
            PutMode::Overwrite => fs::rename(&self.path, &self.file),
            PutMode::Create => {
                fs::hard_link(&self.path, &self.file).and_then(|()| fs::remove_file(&self.path))
            }
            PutMode::Update(_) => Err(ErrorKind::Unsupported.into()),
        };
        named.map_err(|source| match source.kind() {
            ErrorKind::AlreadyExists => Error::AlreadyExists {
                path: self.file.display().to_string(),
                source: source.into(),
            },
            _ => failed(source),
        })?;
        self.folder.sync_name(&self.file).map_err(failed)?;
        Ok(PutResult {
            e_tag: None,
            version: None,
        })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // What was published has this name no more.
        let _ = fs::remove_file(&self.path);
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_tuple("Staged").field(&self.path).finish()
    }
}

/// An object that comes in parts.
#[derive(Debug)]
struct Upload {
    staged: Arc<Staged>,
    /// How many came.
    bytes: u64,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (staged, at) = (self.staged.clone(), self.bytes);
        self.bytes += data.content_length() as u64;
        Box::pin(blocking(move || staged.write(&data, at)))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let staged = self.staged.clone();
        blocking(move || staged.publish(&PutMode::Overwrite)).await
    }

    async fn abort(&mut self) -> Result<()> {
        fs::remove_file(&self.staged.path).map_err(failed)
    }
}

/// Does what waits for the disk where nobody else waits for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await?,
        Err(_) => work(),
    }
}

fn sync(file: &File) -> io::Result<()> {
    match file.sync_all() {
        // Some file systems (SMB, several FUSE) know no syncing of folders: their names are there when they are made.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::InvalidInput | ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        synced => synced,
    }
}

fn failed(source: io::Error) -> Error {
    Error::Generic {
        store: "folder",
        source: source.into(),
    }
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;

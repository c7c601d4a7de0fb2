//! The embedded catalog: documents in segments, and an index to search them.

use std::fs;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use graticule_common::error::listing;
use graticule_common::file::Inspect;
use graticule_common::scene::{LonLatBox, Product, Scene, SceneQuery};
use graticule_common::transform::Transform;
use rusqlite::{Connection, TransactionBehavior};

use super::add::{Added, Record, Registration, replay};
use super::folder::{self, FolderOptions};
use super::footprint::Edges;
use super::index::{self, Index};
use super::search;
use super::store::{Draft, Lock, Place, SegmentId, Segments};
use super::walk::{self, Rules, display};
use super::{CatalogError, SceneCatalog};

/// Name of the catalog's folder in the data directory.
const DIR_NAME: &str = "catalog";
/// Connections kept for the next search.
const IDLE_MAX: usize = 8;
/// Segments are written anew when they are larger than twice what counts in them and this, in bytes …
const GARBAGE_BYTES_MAX: u64 = 64 << 20;
/// … or when there are more of them than this: each is a file to open.
const SEGMENTS_MAX: usize = 256;
/// Records that are copied at a time.
const PAGE: u32 = 1000;
/// A reader starts over when an index or a segment is replaced under it, this many times.
const REPLACED_MAX: u32 = 3;

/// How documents are registered.
pub struct AddOptions<'a> {
    /// What is known about CRSs.
    pub transform: &'a dyn Transform,
    /// Whether items are registered whose local files are missing.
    pub may_miss: bool,
    /// Whether VRTs are registered, which read other files.
    pub allow_vrt: bool,
    /// The folders that local files must be in; `None`: anywhere that the operator can read.
    pub roots: Option<&'a [PathBuf]>,
    /// Who counts the bands of local files that documents do not describe; `None`: they have one.
    pub inspect: Option<&'a dyn Inspect>,
    /// Hears of whom a registration waits for.
    pub waiting: &'a dyn Fn(&str),
}

impl<'a> AddOptions<'a> {
    /// Strict: files must be there, VRTs are refused.
    pub fn new(transform: &'a dyn Transform) -> Self {
        AddOptions {
            transform,
            may_miss: false,
            allow_vrt: false,
            roots: None,
            inspect: None,
            waiting: &|_| (),
        }
    }

    fn rules(&self) -> Rules<'a> {
        let AddOptions { transform, may_miss, allow_vrt, roots, inspect, .. } = *self;
        Rules { transform, may_miss, allow_vrt, roots, inspect }
    }
}

/// What is registered.
pub enum Input<'a> {
    /// A STAC document on disk, a file of one document a line, or a folder with `catalog.json` or
    /// `collection.json`.
    Path(&'a Path),
    /// A folder of plain rasters.
    Folder {
        /// The folder.
        path: &'a Path,
        /// What file names do not say.
        options: &'a FolderOptions,
        /// Looks into the files.
        inspect: &'a dyn Inspect,
    },
    /// One document a line.
    Lines {
        /// Where they are read from.
        reader: &'a mut dyn BufRead,
        /// Its name, for messages.
        name: &'a str,
        /// What relative hrefs start at.
        folder: &'a Path,
    },
}

/// The catalog in a data directory. Cheap to clone; several processes may use one directory at once.
#[derive(Clone, Debug)]
pub struct LocalCatalog(Arc<Store>);

impl LocalCatalog {
    /// Opens the catalog of a data directory; makes both where they do not exist. What a process that
    /// was killed left half done is finished or removed, and an index that is missing, damaged or of
    /// another version is made again.
    ///
    /// # Errors
    /// [`CatalogError::DataDir`], [`CatalogError::Store`], [`CatalogError::Locked`].
    pub fn open(data_dir: &Path) -> Result<Self, CatalogError> {
        let dir = data_dir.join(DIR_NAME);
        let in_dir = |source| CatalogError::DataDir { path: data_dir.display().to_string(), source };
        fs::create_dir_all(&dir).map_err(in_dir)?;
        let segments = Segments::open(dir.join("segments"))?;
        let store = Store { dir, segments, idle: Mutex::default() };
        store.settle()?;
        Ok(LocalCatalog(Arc::new(store)))
    }

    /// Registers a STAC document on disk with all it links to, strictly: everything, or nothing. See
    /// [`add_all`](Self::add_all).
    ///
    /// # Errors
    /// [`CatalogError`] of any kind but those of searches; the catalog is as it was.
    pub fn add(&self, path: &Path, transform: &dyn Transform) -> Result<Added, CatalogError> {
        self.add_all(&mut [Input::Path(path)], &AddOptions::new(transform))
    }

    /// Registers documents with all they link to: everything, or nothing. What is known already is
    /// replaced; a collection that links to its items is replaced as a whole.
    ///
    /// Reads documents and looks at files, but at no pixel. Blocks.
    ///
    /// # Errors
    /// [`CatalogError`] of any kind but those of searches; the catalog is as it was.
    pub fn add_all(&self, inputs: &mut [Input<'_>], options: &AddOptions<'_>) -> Result<Added, CatalogError> {
        let rules = options.rules();
        self.0.change(options.waiting, |registration| {
            for input in inputs {
                match input {
                    Input::Path(path) => walk::walk(path, rules, registration)?,
                    Input::Folder { path, options, inspect } => {
                        folder::register(path, options, *inspect, rules, registration)?;
                    }
                    Input::Lines { reader, name, folder } => {
                        walk::lines(reader, name, folder, rules, registration)?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Removes items of a product, or without any the product as a whole; how many items went. Blocks.
    ///
    /// # Errors
    /// [`CatalogError::UnknownProduct`], [`CatalogError::UnknownItem`]; nothing is removed then.
    pub fn remove(
        &self,
        product: &str,
        items: &[String],
        waiting: &dyn Fn(&str),
    ) -> Result<u64, CatalogError> {
        let mut removed = 0;
        self.0.change(waiting, |registration| {
            if items.is_empty() {
                removed = registration.remove(product, None)?;
            }
            for item in items {
                removed += registration.remove(product, Some(item))?;
            }
            Ok(())
        })?;
        Ok(removed)
    }

    /// Makes the index again from the documents. Blocks.
    ///
    /// # Errors
    /// [`CatalogError`]; the index is as it was.
    pub fn reindex(&self, waiting: &dyn Fn(&str)) -> Result<(), CatalogError> {
        let lock = Lock::take(&self.0.lock_path(), waiting)?;
        self.0.rebuild(&lock)
    }

    /// The STAC document of a collection, or of an item: JSON text. `None` for a product that has no
    /// collection. Blocks.
    ///
    /// # Errors
    /// [`CatalogError::UnknownProduct`], [`CatalogError::UnknownItem`].
    pub fn document(&self, product: &str, item: Option<&str>) -> Result<Option<String>, CatalogError> {
        let line = self.0.with(|index| {
            let row = known(index, product)?;
            let place = match item {
                None => row.place,
                Some(item) => Some(index.item_place(row.key, item)?.ok_or_else(|| {
                    CatalogError::UnknownItem { product: product.to_owned(), item: item.to_owned() }
                })?),
            };
            place.map(|place| self.0.segments.read(place)).transpose()
        })?;
        let document = line.map(|line| Record::parse(&line)).transpose()?.and_then(|record| record.document);
        Ok(document.map(|document| serde_json::to_string(&document).expect("a document is JSON")))
    }

    /// West, south, east and north of the boxes of a product's items, in degrees; `None` without items.
    /// Blocks.
    ///
    /// # Errors
    /// [`CatalogError::UnknownProduct`].
    pub fn extent(&self, product: &str) -> Result<Option<Edges>, CatalogError> {
        self.0.with(|index| {
            let row = known(index, product)?;
            index.extent(row.key)
        })
    }

    /// A product. Blocks.
    ///
    /// # Errors
    /// [`CatalogError::UnknownProduct`].
    pub fn product_now(&self, id: &str) -> Result<Product, CatalogError> {
        self.0.with(|index| {
            known(index, id)?;
            product(index, id)
        })
    }

    /// A scene. Blocks.
    ///
    /// # Errors
    /// [`CatalogError::UnknownProduct`], [`CatalogError::UnknownItem`].
    pub fn scene(&self, product: &str, item: &str) -> Result<Scene, CatalogError> {
        self.0.with(|index| {
            let row = known(index, product)?;
            let scene = search::one(index, row.key, product, item)?;
            scene.ok_or_else(|| CatalogError::UnknownItem {
                product: product.to_owned(),
                item: item.to_owned(),
            })
        })
    }

    /// Up to `limit` scenes of a product beyond the one with the key `after`, each with its key: all of
    /// them, page by page, in no particular order. Blocks.
    ///
    /// # Errors
    /// [`CatalogError::UnknownProduct`].
    pub fn page(&self, product: &str, after: i64, limit: u32) -> Result<Vec<(i64, Scene)>, CatalogError> {
        self.0.with(|index| {
            let row = known(index, product)?;
            search::page(index, row.key, product, after, limit)
        })
    }

    /// Up to `scenes_max` scenes that a query finds, in order of time, then id, and whether they are all.
    /// Blocks.
    ///
    /// # Errors
    /// [`CatalogError::UnknownProduct`].
    pub fn some(
        &self,
        query: &SceneQuery,
        area: &LonLatBox,
        scenes_max: usize,
    ) -> Result<(Vec<Scene>, bool), CatalogError> {
        self.0.some(query, area, scenes_max)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        task: impl FnOnce(&Store) -> Result<T, CatalogError> + Send + 'static,
    ) -> Result<T, CatalogError> {
        let store = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || task(&store)).await {
            Ok(result) => result,
            Err(e) => Err(CatalogError::Task { reason: e.to_string() }),
        }
    }

    #[cfg(test)]
    pub(super) fn fill_disk_after(&self, bytes: u64) {
        self.0.segments.full_after.store(bytes, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Whether a folder has a STAC document to begin with; else it is taken as a folder of plain rasters.
pub fn is_stac_folder(path: &Path) -> bool {
    walk::INDEX_NAMES.iter().any(|name| path.join(name).is_file())
}

fn known(index: Index<'_>, product: &str) -> Result<index::ProductRow, CatalogError> {
    match index.product(product)? {
        Some(row) => Ok(row),
        None => {
            let available = listing(index.product_ids()?);
            Err(CatalogError::UnknownProduct { product: product.to_owned(), available })
        }
    }
}

fn product(index: Index<'_>, id: &str) -> Result<Product, CatalogError> {
    let row = known(index, id)?;
    let (bands, scenes) = index.bands(row.key)?;
    let names = bands.iter().map(|(name, _)| name.clone()).collect();
    let band_info = bands.into_iter().filter(|(_, info)| *info != Default::default()).collect();
    let acquired = index.acquired(row.key)?;
    Ok(Product { title: row.title, band_info, scenes, acquired, ..Product::new(id, names) })
}

#[async_trait]
impl SceneCatalog for LocalCatalog {
    async fn products(&self) -> Result<Vec<Product>, CatalogError> {
        self.blocking(|store| {
            store.with(|index| index.product_ids()?.iter().map(|id| product(index, id)).collect())
        })
        .await
    }

    async fn product(&self, id: &str) -> Result<Product, CatalogError> {
        let id = id.to_owned();
        self.blocking(move |store| store.with(|index| product(index, &id))).await
    }

    async fn search(
        &self,
        query: &SceneQuery,
        area: &LonLatBox,
        scenes_max: usize,
    ) -> Result<Vec<Scene>, CatalogError> {
        let (query, area) = (query.clone(), *area);
        self.blocking(move |store| match store.some(&query, &area, scenes_max)? {
            (scenes, true) => Ok(scenes),
            (_, false) => {
                Err(CatalogError::TooManyScenes { product: query.product.clone(), limit: scenes_max })
            }
        })
        .await
    }

    async fn scenes_by_id(&self, ids: &[String]) -> Result<Vec<Scene>, CatalogError> {
        let ids = ids.to_vec();
        self.blocking(move |store| {
            store.with(|index| {
                let products = index.product_ids()?;
                ids.iter().map(|id| image(index, &products, id)).collect()
            })
        })
        .await
    }
}

/// The image with an id, or with `PRODUCT:ID`.
fn image(index: Index<'_>, products: &[String], id: &str) -> Result<Scene, CatalogError> {
    let mut found = Vec::new();
    for product in products {
        let own = id.strip_prefix(product.as_str()).and_then(|rest| rest.strip_prefix(':'));
        for item in std::iter::once(id).chain(own) {
            let row = known(index, product)?;
            found.extend(search::one(index, row.key, product, item)?);
        }
    }
    match found.len() {
        0 => Err(CatalogError::UnknownImage { id: id.to_owned() }),
        1 => Ok(found.remove(0)),
        _ => {
            let products = listing(found.iter().map(|scene| &scene.product));
            Err(CatalogError::AmbiguousImage { id: id.to_owned(), products })
        }
    }
}

/// The folder of a catalog, and idle connections to its index.
#[derive(Debug)]
struct Store {
    dir: PathBuf,
    segments: Segments,
    idle: Mutex<Vec<(PathBuf, Connection)>>,
}

impl Store {
    fn some(
        &self,
        query: &SceneQuery,
        area: &LonLatBox,
        scenes_max: usize,
    ) -> Result<(Vec<Scene>, bool), CatalogError> {
        self.with(|index| {
            let row = known(index, &query.product)?;
            search::search(index, row.key, query, area, scenes_max)
        })
    }

    fn lock_path(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// The index in use: the one with the highest number. A new one is made beside it, never in its place.
    fn index_path(&self) -> Result<Option<(u64, PathBuf)>, CatalogError> {
        let failed = |source| CatalogError::DataDir { path: display(&self.dir), source };
        let mut last = None;
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let number = entry.file_name().to_str().and_then(index_number);
            last = last.max(number.map(|number| (number, entry.path())));
        }
        Ok(last)
    }

    /// Makes index and segments agree.
    fn settle(&self) -> Result<(), CatalogError> {
        if self.is_settled()? == Some(true) {
            return Ok(());
        }
        // Without an index nothing can be answered; with one, whoever changes it now will finish.
        let lock = match self.is_settled()? {
            None => Lock::take(&self.lock_path(), &|_| ())?,
            Some(_) => match Lock::try_take(&self.lock_path())? {
                Some(lock) => lock,
                None => return Ok(()),
            },
        };
        match self.is_settled()? {
            Some(true) => Ok(()),
            Some(false) => {
                let Some((path, mut connection)) = self.connect()? else { return self.rebuild(&lock) };
                self.catch_up(&path, &mut connection, &lock)
            }
            None => self.rebuild(&lock),
        }
    }

    /// Whether the index has just the segments that there are; `None` without a usable index.
    fn is_settled(&self) -> Result<Option<bool>, CatalogError> {
        let Some((path, connection)) = self.connect()? else { return Ok(None) };
        let index = Index { connection: &connection, path: &path };
        Ok(Some(index.segments()? == self.segments.list()?))
    }

    /// Indexes the segments that came after those in the index: a registration that was killed between
    /// the two. Where the index has others, all is made again.
    fn catch_up(&self, path: &Path, connection: &mut Connection, lock: &Lock) -> Result<(), CatalogError> {
        let failed = |e| index::failed(path, e);
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let index = Index { connection: &transaction, path };
        let (indexed, there) = (index.segments()?, self.segments.list()?);
        let Some(rest) = there.strip_prefix(indexed.as_slice()) else {
            drop(transaction);
            return self.rebuild(lock);
        };
        for (segment, bytes) in rest {
            replay(index, &self.segments, *segment, *bytes)?;
        }
        transaction.commit().map_err(failed)
    }

    /// Makes a new index from the segments.
    fn rebuild(&self, lock: &Lock) -> Result<(), CatalogError> {
        self.segments.tidy(lock)?;
        let before = self.index_path()?;
        let number = before.as_ref().map_or(0, |(number, _)| number + 1);
        let path = self.dir.join(format!("index-{number:06}.sqlite"));
        let draft = path.with_extension("draft");
        remove_index(&draft);
        let failed = |e| index::failed(&draft, e);
        let mut connection = index::create(&draft).map_err(failed)?;
        let transaction = connection.transaction().map_err(failed)?;
        for (segment, bytes) in self.segments.list()? {
            let index = Index { connection: &transaction, path: &draft };
            replay(index, &self.segments, segment, bytes)?;
        }
        transaction.commit().map_err(failed)?;
        // Closing writes what is in the log into the file, and removes the log.
        connection.close().map_err(|(_, e)| failed(e))?;
        fs::rename(&draft, &path).map_err(|source| CatalogError::Write { path: display(&path), source })?;
        if let Some((_, before)) = before {
            remove_index(&before);
        }
        Ok(())
    }

    fn connect(&self) -> Result<Option<(PathBuf, Connection)>, CatalogError> {
        for _ in 0..REPLACED_MAX {
            let Some((_, path)) = self.index_path()? else { return Ok(None) };
            match index::open(&path) {
                Ok(None) if !path.exists() => {}
                Ok(connection) => return Ok(connection.map(|connection| (path, connection))),
                Err(e) => return Err(index::failed(&path, e)),
            }
        }
        Ok(None)
    }

    /// Lends an index, at one moment; its connection serves again unless the task failed.
    fn with<T>(&self, task: impl Fn(Index<'_>) -> Result<T, CatalogError>) -> Result<T, CatalogError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let (path, mut connection) = self.lend()?;
            let failed = |e| index::failed(&path, e);
            let transaction = connection.transaction().map_err(failed)?;
            let result = task(Index { connection: &transaction, path: &path });
            drop(transaction);
            match result {
                Ok(result) => {
                    let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                    if idle.len() < IDLE_MAX {
                        idle.push((path, connection));
                    }
                    return Ok(result);
                }
                // Compaction moved a record between the look at the index and the look at the segment.
                Err(CatalogError::Read { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound && attempt < REPLACED_MAX => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn lend(&self) -> Result<(PathBuf, Connection), CatalogError> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                // Another process may have made the index again.
                Some((path, _)) if !path.exists() => {}
                Some(lent) => return Ok(lent),
                None => break,
            }
        }
        if let Some(lent) = self.connect()? {
            return Ok(lent);
        }
        self.settle()?;
        self.connect()?.ok_or_else(|| CatalogError::Record {
            item: display(&self.dir),
            problem: "its index is gone".to_owned(),
        })
    }

    /// Changes the catalog: all that `task` does, or nothing.
    fn change(
        &self,
        waiting: &dyn Fn(&str),
        task: impl FnOnce(&mut Registration<'_>) -> Result<(), CatalogError>,
    ) -> Result<Added, CatalogError> {
        let lock = Lock::take(&self.lock_path(), waiting)?;
        if self.is_settled()?.is_none() {
            self.rebuild(&lock)?;
        }
        self.segments.tidy(&lock)?;
        let (path, mut connection) = self.lend()?;
        self.catch_up(&path, &mut connection, &lock)?;
        if !path.exists() {
            (_, connection) = self.lend()?;
        }
        let path = self.index_path()?.map_or(path, |(_, path)| path);
        let failed = |e| index::failed(&path, e);
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let number = self.segments.list()?.last().map_or(1, |(last, _)| last.number + 1);
        let draft = self.segments.draft(SegmentId { number, is_base: false }, &lock)?;
        let mut registration = Registration::new(&transaction, &path, &self.segments, draft);
        task(&mut registration)?;
        let (draft, added) = registration.finish()?;
        if draft.bytes() > 0 {
            let index = Index { connection: &transaction, path: &path };
            let (bytes, id) = (draft.bytes(), draft.id());
            index.add_segment(id, bytes)?;
            self.commit(draft, transaction, &path)?;
        } else {
            drop(transaction);
        }
        drop(connection);
        self.compact(&lock)?;
        Ok(added)
    }

    /// Puts a segment into its place, then makes the index's change seen. Should the process end between
    /// the two, the next one to open the catalog finds the segment.
    fn commit(
        &self,
        draft: Draft,
        transaction: rusqlite::Transaction<'_>,
        path: &Path,
    ) -> Result<(), CatalogError> {
        let id = draft.commit()?;
        transaction.commit().map_err(|e| {
            self.segments.remove(id);
            index::failed(path, e)
        })
    }

    /// Writes what counts into one segment where most of what there is does not count any more.
    fn compact(&self, lock: &Lock) -> Result<(), CatalogError> {
        let there = self.segments.list()?;
        let (path, mut connection) = self.lend()?;
        let failed = |e| index::failed(&path, e);
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let index = Index { connection: &transaction, path: &path };
        let bytes: u64 = there.iter().map(|(_, bytes)| bytes).sum();
        let is_garbage = bytes > 2 * index.live_bytes()? + GARBAGE_BYTES_MAX;
        if !is_garbage && there.len() <= SEGMENTS_MAX {
            return Ok(());
        }
        let number = there.last().map_or(1, |(last, _)| last.number + 1);
        let mut draft = self.segments.draft(SegmentId { number, is_base: true }, lock)?;
        for id in index.product_ids()? {
            let Some(row) = index.product(&id)? else { continue };
            if let Some(place) = row.place {
                let place = draft.append(&self.segments.read(place)?)?;
                index.put_collection(&id, &row.title, place)?;
            }
            let mut after = 0;
            loop {
                let page: Vec<(i64, Place)> = index.places(row.key, after, PAGE)?;
                let Some((last, _)) = page.last() else { break };
                after = *last;
                for (key, place) in page {
                    index.moved(key, draft.append(&self.segments.read(place)?)?)?;
                }
            }
        }
        index.add_segment(draft.id(), draft.bytes())?;
        self.commit(draft, transaction, &path)?;
        self.segments.tidy(lock)
    }
}

fn index_number(name: &str) -> Option<u64> {
    name.strip_prefix("index-")?.strip_suffix(".sqlite")?.parse().ok()
}

/// Removes an index with its log. What stays is never looked at again.
fn remove_index(path: &Path) {
    let name = path.as_os_str().to_owned();
    for end in ["", "-wal", "-shm", "-journal"] {
        let mut name = name.clone();
        name.push(end);
        let _ = fs::remove_file(name);
    }
}

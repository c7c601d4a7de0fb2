//! The catalog: documents in segments of an object store, and an index on this machine to search them.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use graticule_common::error::listing;
use graticule_common::file::Inspect;
use graticule_common::hash::Hasher;
use graticule_common::scene::{LonLatBox, Product, Scene, SceneQuery};
use graticule_common::telemetry::names;
use graticule_common::transform::Transform;
use tokio_util::sync::CancellationToken;

use super::add::{Added, Record};
use super::folder::{self, FolderOptions};
use super::footprint::Edges;
use super::index::{self, Index};
use super::keep::Store;
use super::lock::Lock;
use super::search;
use super::walk::{self, Rules};
use super::{CatalogError, Listed, SceneCatalog};
use crate::objects::{ObjectError, Objects};

/// Name of the catalog's folder in the data directory.
const DIR_NAME: &str = "catalog";
/// How often a coordinator looks whether others changed the catalog, unless it is told otherwise.
pub const POLL_EVERY: Duration = Duration::from_secs(2);

/// How often what is not needed any more is removed: it costs space only.
const TIDY_EVERY: Duration = Duration::from_secs(600);

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

/// A catalog. Cheap to clone. Several processes may use one at once: those of a machine the same index, or
/// each its own, which follows the store.
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
        let in_dir = |error| match error {
            ObjectError::File { path, source } => CatalogError::DataDir { path, source },
            error => CatalogError::of_store(error),
        };
        LocalCatalog::open_data(Objects::folder(data_dir, true).map_err(in_dir)?)
    }

    /// As [`open`](Self::open), of a data directory that is a store already: the index is in it, and who
    /// uses the directory shares it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_data(objects: Objects) -> Result<Self, CatalogError> {
        let folder = objects.as_folder().map(|folder| folder.join(DIR_NAME));
        let no_folder = || CatalogError::DataDir {
            path: objects.url().to_owned(),
            source: std::io::ErrorKind::NotADirectory.into(),
        };
        let dir = folder.ok_or_else(no_folder)?;
        LocalCatalog::open_in(objects, &dir)
    }

    /// Opens the catalog of a store, with its index in a folder of this machine, which is made where it
    /// does not exist. The index may be lost: it is made again from the store.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`CatalogError::Objects`].
    pub fn open_in(objects: Objects, index_dir: &Path) -> Result<Self, CatalogError> {
        objects.wait(|objects| async move { objects.prove().await }).map_err(CatalogError::of_store)?;
        let store = Store::open(objects, index_dir.to_owned(), DIR_NAME)?;
        store.settle()?;
        Ok(LocalCatalog(Arc::new(store)))
    }

    /// The store that the catalog is in.
    pub fn objects(&self) -> &Objects {
        self.0.segments.objects()
    }

    /// Takes in what others changed; they may be at it still. Blocks.
    ///
    /// # Errors
    /// [`CatalogError`]; answers are as they were.
    pub fn refresh(&self) -> Result<(), CatalogError> {
        self.0.settle()
    }

    /// Takes in what others change, looking `every` so often, until `stop`. A store that does not answer
    /// costs how new answers are, never an answer.
    pub async fn watch(self, every: Duration, stop: CancellationToken) {
        let mut is_behind = false;
        let mut tidied = tokio::time::Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            let mut looked = self.blocking(Store::settle).await;
            if looked.is_ok() && tidied.elapsed() >= TIDY_EVERY {
                looked = self.blocking(Store::tidy).await;
                tidied = tokio::time::Instant::now();
            }
            metrics::counter!(names::CATALOG_LOOKS, "ok" => if looked.is_ok() { "yes" } else { "no" })
                .increment(1);
            match (&looked, is_behind) {
                (Err(error), false) => {
                    tracing::warn!(%error, "the catalog cannot be looked at: answers may be old");
                }
                (Ok(()), true) => tracing::info!("the catalog can be looked at again"),
                _ => {}
            }
            is_behind = looked.is_err();
        }
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
        self.0.some(query, area, scenes_max).map(|(scenes, is_all)| (only_scenes(scenes), is_all))
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
    pub(super) fn overtake(&self, always: bool) {
        self.0.segments.is_overtaken.store(always, std::sync::atomic::Ordering::Relaxed);
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

pub(super) fn known(index: Index<'_>, product: &str) -> Result<index::ProductRow, CatalogError> {
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
    fn generation(&self) -> Option<u64> {
        // Answers are made from the index, the index from these. A few rows: it takes no thread of its own.
        let segments = self.0.with(|index| index.segments()).ok()?;
        let mut hasher = Hasher::new("catalog generation");
        for (id, bytes) in segments {
            hasher.int(id.number).int(id.is_base.into()).int(bytes.cast_signed());
        }
        let mut number = [0; 8];
        number.copy_from_slice(&hasher.finish().as_bytes()[..8]);
        Some(u64::from_le_bytes(number))
    }

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
            (scenes, true) => Ok(only_scenes(scenes)),
            (_, false) => {
                Err(CatalogError::TooManyScenes { product: query.product.clone(), limit: scenes_max })
            }
        })
        .await
    }

    async fn list(
        &self,
        query: &SceneQuery,
        area: &LonLatBox,
        scenes_max: usize,
    ) -> Result<(Vec<Listed>, bool), CatalogError> {
        let (query, area) = (query.clone(), *area);
        self.blocking(move |store| store.some(&query, &area, scenes_max)).await
    }

    async fn footprint(&self, product: &str) -> Result<Option<[f64; 4]>, CatalogError> {
        let id = product.to_owned();
        self.blocking(move |store| {
            store.with(|index| {
                let row = known(index, &id)?;
                index.extent(row.key)
            })
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

fn only_scenes(listed: Vec<Listed>) -> Vec<Scene> {
    listed.into_iter().map(|listed| listed.scene).collect()
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

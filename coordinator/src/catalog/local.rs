//! The embedded catalog: STAC collections and items in SQLite.
//!
//! The documents are kept as they are on disk, and are the truth. Beside each stands what
//! registration found out about its files, and what a search looks up: time and bounding box.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use graticule_common::error::listing;
use graticule_common::scene::{LonLatBox, Product, Scene, SceneQuery, Timestamp};
use graticule_common::transform::Transform;
use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, named_params, params,
};

use super::footprint::parts;
use super::stac::{self, AssetFile, Document};
use super::walk::{Found, FoundItem, walk};
use super::{CatalogError, SceneCatalog};

/// Name of the store in the data directory.
const FILE_NAME: &str = "catalog.sqlite";
/// Layout of the tables. A store of another layout is refused, never rewritten.
const LAYOUT: i64 = 1;
/// How long a registration waits for another one to finish.
const BUSY_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections kept for the next search.
const IDLE_MAX: usize = 8;

const TABLES: &str = "
CREATE TABLE products (
    id TEXT PRIMARY KEY,
    title TEXT NOT NULL,
    document TEXT,               -- the STAC collection; NULL where only items were registered
    bands TEXT NOT NULL          -- JSON array of names, in order of first appearance
) STRICT;
CREATE TABLE items (
    key INTEGER PRIMARY KEY,
    product TEXT NOT NULL REFERENCES products (id),
    id TEXT NOT NULL,
    acquired INTEGER NOT NULL,   -- microseconds since 1970-01-01T00:00:00Z
    bands TEXT NOT NULL,         -- JSON array of names
    file TEXT NOT NULL,          -- where the document was, for messages
    document TEXT NOT NULL,      -- the STAC item
    assets TEXT NOT NULL,        -- JSON object: asset key to path, version and CRS
    UNIQUE (product, id)
) STRICT;
CREATE INDEX items_by_time ON items (product, acquired, id);
-- One row for each part of an item's box on either side of 180 degrees, numbered twice the item's key
-- and that plus one. The index keeps its numbers in single precision, rounded outwards; the columns
-- beside it have them exactly.
CREATE VIRTUAL TABLE footprints USING rtree (
    part, west, east, south, north,
    +item INTEGER, +exact_west REAL, +exact_east REAL, +exact_south REAL, +exact_north REAL
);
";

const SEARCH: &str = "
SELECT id, file, document, assets FROM items
WHERE product = :product AND acquired >= :start AND (:end IS NULL OR acquired < :end)
  AND key IN (
    SELECT item FROM footprints
    WHERE (west <= :east1 AND east >= :west1 AND south <= :north AND north >= :south
           AND exact_west <= :east1 AND exact_east >= :west1
           AND exact_south <= :north AND exact_north >= :south)
    UNION ALL
    SELECT item FROM footprints
    WHERE (west <= :east2 AND east >= :west2 AND south <= :north AND north >= :south
           AND exact_west <= :east2 AND exact_east >= :west2
           AND exact_south <= :north AND exact_north >= :south))
ORDER BY acquired, id
LIMIT :limit
";

/// What a registration did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// Ids of the products that were touched, in the order of the documents, each with the number of
    /// its scenes that were registered.
    pub products: Vec<(String, u64)>,
}

/// The catalog in a data directory. Cheap to clone; several processes may use one directory at once.
#[derive(Clone, Debug)]
pub struct LocalCatalog(Arc<Store>);

impl LocalCatalog {
    /// Opens the catalog of a data directory; makes both where they do not exist.
    ///
    /// # Errors
    /// [`CatalogError::DataDir`], [`CatalogError::Layout`], [`CatalogError::Store`].
    pub fn open(data_dir: &Path) -> Result<Self, CatalogError> {
        let in_dir = |source| CatalogError::DataDir { path: data_dir.display().to_string(), source };
        fs::create_dir_all(data_dir).map_err(in_dir)?;
        let path = data_dir.join(FILE_NAME);
        if !path.try_exists().map_err(in_dir)? {
            create(&path).map_err(|e| match e {
                CreateError::File(source) => in_dir(source),
                CreateError::Store(source) => {
                    CatalogError::Store { path: path.display().to_string(), source }
                }
            })?;
        }
        let store = Store { path, idle: Mutex::default() };
        store.with(|_| Ok(()))?;
        Ok(LocalCatalog(Arc::new(store)))
    }

    /// Registers a STAC catalog, collection or item on disk, with all it links to: everything, or
    /// nothing. What is known already is replaced; a collection's items are replaced as a whole.
    ///
    /// Reads documents and looks at files, but at no pixel. Blocks.
    ///
    /// # Errors
    /// [`CatalogError`] of any kind but those of searches; the catalog is as it was.
    pub fn add(&self, path: &Path, transform: &dyn Transform) -> Result<Added, CatalogError> {
        let found = walk(path, transform)?;
        self.0.with(|connection| {
            // Immediate: a reader that turns writer may fail where two of them meet.
            let transaction = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(|e| self.0.failed(e))?;
            let added = self.0.write(&transaction, &found)?;
            transaction.commit().map_err(|e| self.0.failed(e))?;
            Ok(added)
        })
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
}

#[async_trait]
impl SceneCatalog for LocalCatalog {
    async fn products(&self) -> Result<Vec<Product>, CatalogError> {
        self.blocking(|store| store.with(|connection| store.products(connection))).await
    }

    async fn search(
        &self,
        query: &SceneQuery,
        area: &LonLatBox,
        scenes_max: usize,
    ) -> Result<Vec<Scene>, CatalogError> {
        let (query, area) = (query.clone(), *area);
        self.blocking(move |store| {
            let rows = store.with(|connection| store.search(connection, &query, &area, scenes_max))?;
            rows.into_iter().map(|row| row.scene(&query.product)).collect()
        })
        .await
    }

    async fn scenes_by_id(&self, ids: &[String]) -> Result<Vec<Scene>, CatalogError> {
        let ids = ids.to_vec();
        self.blocking(move |store| {
            let rows = store.with(|connection| {
                let find = |id| image(connection, id).map_err(|e| store.failed(e))?;
                ids.iter().map(|id: &String| find(id)).collect::<Result<Vec<_>, _>>()
            })?;
            rows.into_iter().map(|(product, row)| row.scene(&product)).collect()
        })
        .await
    }
}

/// The database file and its idle connections.
#[derive(Debug)]
struct Store {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

/// A found item as it is stored.
struct ItemRow {
    id: String,
    file: String,
    document: String,
    assets: String,
}

impl ItemRow {
    fn scene(self, product: &str) -> Result<Scene, CatalogError> {
        let damaged = |problem: String| CatalogError::Record { item: self.id.clone(), problem };
        let assets: BTreeMap<String, AssetFile> =
            serde_json::from_str(&self.assets).map_err(|e| damaged(e.to_string()))?;
        match stac::parse(&self.file, self.document.as_bytes())? {
            Document::Item(item) => item.scene(product, assets),
            Document::Group(_) => Err(damaged("not an item".to_owned())),
        }
    }
}

impl Store {
    fn failed(&self, source: rusqlite::Error) -> CatalogError {
        CatalogError::Store { path: self.path.display().to_string(), source }
    }

    /// Lends a connection, which serves again unless the task failed.
    fn with<T>(
        &self,
        task: impl FnOnce(&mut Connection) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let result = task(&mut connection)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
        Ok(result)
    }

    fn connect(&self) -> Result<Connection, CatalogError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || {
            let connection = Connection::open_with_flags(&self.path, flags)?;
            prepare(&connection)?;
            let layout = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            Ok((connection, layout))
        };
        let (connection, found): (Connection, i64) = open().map_err(|e| self.failed(e))?;
        if found != LAYOUT {
            let path = self.path.display().to_string();
            return Err(CatalogError::Layout { path, found, known: LAYOUT });
        }
        Ok(connection)
    }

    fn write(&self, transaction: &Transaction<'_>, found: &Found) -> Result<Added, CatalogError> {
        let write = || {
            let mut products: Vec<(String, u64)> = Vec::new();
            for collection in &found.collections {
                transaction.execute(
                    "INSERT INTO products (id, title, document, bands) VALUES (?1, ?2, ?3, '[]')
                     ON CONFLICT (id) DO UPDATE SET title = excluded.title, document = excluded.document",
                    params![collection.id, collection.title, collection.document],
                )?;
                transaction.execute(
                    "DELETE FROM footprints WHERE part IN (
                         SELECT 2 * key FROM items WHERE product = ?1
                         UNION ALL SELECT 2 * key + 1 FROM items WHERE product = ?1)",
                    [&collection.id],
                )?;
                transaction.execute("DELETE FROM items WHERE product = ?1", [&collection.id])?;
                products.push((collection.id.clone(), 0));
            }
            for item in &found.items {
                match products.iter_mut().find(|(id, _)| *id == item.product) {
                    Some((_, scenes)) => *scenes += 1,
                    None => {
                        transaction.execute(
                            "INSERT INTO products (id, title, bands) VALUES (?1, ?1, '[]')
                             ON CONFLICT (id) DO NOTHING",
                            [&item.product],
                        )?;
                        products.push((item.product.clone(), 1));
                    }
                }
                write_item(transaction, item)?;
            }
            for (product, _) in &products {
                let bands = json(&band_union(transaction, product)?);
                transaction
                    .execute("UPDATE products SET bands = ?2 WHERE id = ?1", params![product, bands])?;
            }
            Ok(Added { products })
        };
        write().map_err(|e| self.failed(e))
    }

    fn products(&self, connection: &Connection) -> Result<Vec<Product>, CatalogError> {
        let read = || {
            let mut statement = connection.prepare_cached(
                "SELECT products.id, title, products.bands, count(key), min(acquired), max(acquired)
                 FROM products LEFT JOIN items ON items.product = products.id
                 GROUP BY products.id ORDER BY products.id",
            )?;
            let rows = statement.query_map([], |row| {
                let bands: String = row.get(2)?;
                let ends: (Option<i64>, Option<i64>) = (row.get(4)?, row.get(5)?);
                let product = Product {
                    id: row.get(0)?,
                    title: row.get(1)?,
                    bands: Vec::new(),
                    band_info: BTreeMap::new(),
                    scenes: row.get(3)?,
                    acquired: ends.0.zip(ends.1).map(|(first, last)| (Timestamp(first), Timestamp(last))),
                };
                Ok((product, bands))
            })?;
            rows.collect::<Result<Vec<_>, _>>()
        };
        let rows = read().map_err(|e| self.failed(e))?;
        let with_bands = |(product, bands): (Product, String)| match serde_json::from_str(&bands) {
            Ok(bands) => Ok(Product { bands, ..product }),
            Err(e) => Err(CatalogError::Record { item: product.id, problem: e.to_string() }),
        };
        rows.into_iter().map(with_bands).collect()
    }

    fn search(
        &self,
        connection: &mut Connection,
        query: &SceneQuery,
        area: &LonLatBox,
        scenes_max: usize,
    ) -> Result<Vec<ItemRow>, CatalogError> {
        // One transaction: the answers to both questions are of one moment.
        let mut read = || {
            let transaction = connection.transaction()?;
            let known = transaction
                .prepare_cached("SELECT 1 FROM products WHERE id = ?1")?
                .query_row([&query.product], |_| Ok(()))
                .optional()?;
            if known.is_none() {
                let mut ids = transaction.prepare_cached("SELECT id FROM products ORDER BY id")?;
                let ids = ids.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
                return Ok(Err(ids));
            }
            Ok(Ok(search_rows(&transaction, query, area, scenes_max)?))
        };
        let rows = match read().map_err(|e| self.failed(e))? {
            Ok(rows) => rows,
            Err(ids) => {
                let product = query.product.clone();
                return Err(CatalogError::UnknownProduct { product, available: listing(ids) });
            }
        };
        if rows.len() > scenes_max {
            return Err(CatalogError::TooManyScenes { product: query.product.clone(), limit: scenes_max });
        }
        Ok(rows)
    }
}

/// The image with an id, and its product.
fn image(
    connection: &Connection,
    id: &str,
) -> Result<Result<(String, ItemRow), CatalogError>, rusqlite::Error> {
    const SELECT: &str = "SELECT product, id, file, document, assets FROM items
        WHERE id = ?1 OR (product || ':' || id) = ?1 ORDER BY product LIMIT 16";
    let mut statement = connection.prepare_cached(SELECT)?;
    let rows = statement.query_map([id], |row| {
        let item = ItemRow { id: row.get(1)?, file: row.get(2)?, document: row.get(3)?, assets: row.get(4)? };
        Ok((row.get::<_, String>(0)?, item))
    })?;
    let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(match rows.len() {
        0 => Err(CatalogError::UnknownImage { id: id.to_owned() }),
        1 => Ok(rows.remove(0)),
        _ => {
            let products = listing(rows.iter().map(|(product, _)| product));
            Err(CatalogError::AmbiguousImage { id: id.to_owned(), products })
        }
    })
}

/// Up to one row more than `scenes_max`.
fn search_rows(
    connection: &Connection,
    query: &SceneQuery,
    area: &LonLatBox,
    scenes_max: usize,
) -> Result<Vec<ItemRow>, rusqlite::Error> {
    let areas = parts([area.west, area.south, area.east, area.north]);
    let Some(first) = areas.first() else { return Ok(Vec::new()) };
    let second = areas.get(1).unwrap_or(first);
    let mut statement = connection.prepare_cached(SEARCH)?;
    let rows = statement.query_map(
        named_params! {
            ":product": query.product,
            ":start": query.start.map_or(i64::MIN, |start| start.0),
            ":end": query.end.map(|end| end.0),
            ":west1": first.west, ":east1": first.east,
            ":west2": second.west, ":east2": second.east,
            ":south": area.south, ":north": area.north,
            ":limit": i64::try_from(scenes_max).unwrap_or(i64::MAX).saturating_add(1),
        },
        |row| Ok(ItemRow { id: row.get(0)?, file: row.get(1)?, document: row.get(2)?, assets: row.get(3)? }),
    )?;
    rows.collect()
}

fn write_item(transaction: &Transaction<'_>, item: &FoundItem) -> Result<(), rusqlite::Error> {
    let key: i64 = transaction
        .prepare_cached(
            "INSERT INTO items (product, id, acquired, bands, file, document, assets)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (product, id) DO UPDATE SET acquired = excluded.acquired, bands = excluded.bands,
                 file = excluded.file, document = excluded.document, assets = excluded.assets
             RETURNING key",
        )?
        .query_row(
            params![
                item.product,
                item.id,
                item.acquired.0,
                json(&item.bands),
                item.file,
                item.document,
                json(&item.assets)
            ],
            |row| row.get(0),
        )?;
    // An item has two parts at most.
    transaction
        .prepare_cached("DELETE FROM footprints WHERE part IN (?1, ?2)")?
        .execute([2 * key, 2 * key + 1])?;
    for (part, area) in (2 * key..).zip(parts(item.bbox).into_iter().take(2)) {
        transaction
            .prepare_cached(
                "INSERT INTO footprints (part, west, east, south, north,
                                         item, exact_west, exact_east, exact_south, exact_north)
                 VALUES (?1, ?3, ?4, ?5, ?6, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![part, key, area.west, area.east, area.south, area.north])?;
    }
    Ok(())
}

/// Band names of a product's items, in order of first appearance.
fn band_union(transaction: &Transaction<'_>, product: &str) -> Result<Vec<String>, rusqlite::Error> {
    let mut statement = transaction
        .prepare_cached("SELECT bands FROM items WHERE product = ?1 GROUP BY bands ORDER BY min(key)")?;
    let lists = statement.query_map([product], |row| row.get::<_, String>(0))?;
    let mut union: Vec<String> = Vec::new();
    for list in lists {
        let names: Vec<String> = serde_json::from_str(&list?).map_err(|e| {
            rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(e))
        })?;
        for name in names {
            if !union.contains(&name) {
                union.push(name);
            }
        }
    }
    Ok(union)
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("lists and maps of text are JSON")
}

fn prepare(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "foreign_keys", true)
}

enum CreateError {
    File(io::Error),
    Store(rusqlite::Error),
}

/// Makes an empty store beside its final place and moves it there, unless another process was first:
/// nobody ever sees a store without its tables, or one that is not yet in WAL mode.
fn create(path: &Path) -> Result<(), CreateError> {
    static ATTEMPT: AtomicU64 = AtomicU64::new(0);
    let attempt = ATTEMPT.fetch_add(1, Ordering::Relaxed);
    let draft = path.with_extension(format!("new-{}-{attempt}", process::id()));
    // A process that was killed may have had this id.
    let _ = fs::remove_file(&draft);
    let fill = || {
        let connection = Connection::open(&draft)?;
        prepare(&connection)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.execute_batch(TABLES)?;
        connection.pragma_update(None, "user_version", LAYOUT)?;
        connection.close().map_err(|(_, e)| e)
    };
    let moved = fill().map_err(CreateError::Store).and_then(|()| match fs::hard_link(&draft, path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Some file systems know no hard links. There, two first registrations may collide.
        Err(_) => fs::rename(&draft, path).map_err(CreateError::File),
        Ok(()) => Ok(()),
    });
    let _ = fs::remove_file(&draft);
    moved
}

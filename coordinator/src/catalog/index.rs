//! The index: what a search looks up, in SQLite. It holds nothing that the documents do not say, and is
//! made again from them where it is missing, damaged or of another version.

use std::path::{Path, PathBuf};
use std::time::Duration;

use graticule_common::scene::{BandInfo, Scene, Timestamp};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::CatalogError;
use super::digest::{decode_bands, encode, encode_bands};
use super::footprint::{Edges, parts};
use super::store::{Place, SegmentId};

/// Version of the tables and of what is in them. Raise it whenever a digest of the same document changes.
const LAYOUT: i64 = 5;
/// Writers are kept apart by a lock; this bounds waiting for SQLite's own short ones.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// What SQLite's log may keep for the next change.
const LOG_BYTES_MAX: i64 = 64 << 20;
/// Pages that a writer keeps in memory, in KiB.
const CACHE_KIB: i64 = 64 << 10;

const TABLES: &str = "
CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
INSERT INTO state VALUES ('live_bytes', 0);
CREATE TABLE segments (number INTEGER PRIMARY KEY, is_base INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
CREATE TABLE products (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    -- Where the STAC collection is; NULL where only items were registered.
    segment INTEGER, is_base INTEGER, offset INTEGER, length INTEGER
) STRICT;
-- The lists of bands that items have, each once.
CREATE TABLE band_sets (
    key INTEGER PRIMARY KEY,
    product INTEGER NOT NULL,
    bands TEXT NOT NULL,
    items INTEGER NOT NULL,
    place INTEGER NOT NULL,      -- in the order of first appearance
    UNIQUE (product, bands)
) STRICT;
CREATE TABLE items (
    key INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again: an item that is digested again comes last
    product INTEGER NOT NULL,
    id TEXT NOT NULL,
    acquired INTEGER NOT NULL,   -- microseconds since 1970-01-01T00:00:00Z
    cloud_fraction REAL,
    satellite_id TEXT,
    west REAL NOT NULL, south REAL NOT NULL, east REAL NOT NULL, north REAL NOT NULL,
    band_set INTEGER NOT NULL,
    segment INTEGER NOT NULL, is_base INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    hash BLOB NOT NULL,          -- of the record, to tell what is unchanged
    seen INTEGER NOT NULL,       -- number of the last segment that had it, changed or not
    scene BLOB NOT NULL,
    UNIQUE (product, id)
) STRICT;
CREATE INDEX items_by_time ON items (product, acquired, id);
-- One row for each part of an item's box on either side of 180 degrees, numbered twice the item's key
-- and that plus one. Numbers are in single precision, rounded outwards; `items` has them exactly.
-- A product is from its key to half a step beyond: a side without length makes all volumes nothing,
-- and the tree a list.
CREATE VIRTUAL TABLE footprints USING rtree (part, west, east, south, north, t0, t1, p0, p1);
";

/// The bytes of a record's hash that are kept: enough to tell versions of one item apart.
pub(super) const HASH_BYTES: usize = 16;

/// An item to index.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) scene: &'a Scene,
    pub(super) bbox: Edges,
    pub(super) bands: &'a [(String, BandInfo)],
    pub(super) place: Place,
    pub(super) hash: [u8; HASH_BYTES],
}

/// An item that is in the index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    key: i64,
    pub(super) band_set: i64,
    pub(super) hash: [u8; HASH_BYTES],
    /// Number of the last segment that had it, changed or not.
    pub(super) seen: i64,
    pub(super) place: Place,
}

/// A product's row.
#[derive(Debug)]
pub(super) struct ProductRow {
    pub(super) key: i64,
    pub(super) title: String,
    pub(super) place: Option<Place>,
}

/// Opens an index. `None` where it is missing, of another layout or damaged.
pub(super) fn open(path: &Path) -> Result<Option<Connection>, rusqlite::Error> {
    use rusqlite::ErrorCode::{CannotOpen, DatabaseCorrupt, NotADatabase};
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        prepare(&connection)?;
        let layout: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        Ok((layout == LAYOUT).then_some(connection))
    };
    open().or_else(|e: rusqlite::Error| match e.sqlite_error_code() {
        Some(CannotOpen | DatabaseCorrupt | NotADatabase) => Ok(None),
        _ => Err(e),
    })
}

/// Makes an empty index.
pub(super) fn create(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open(path)?;
    prepare(&connection)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.execute_batch(TABLES)?;
    connection.pragma_update(None, "user_version", LAYOUT)?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    // What a power cut takes from the index is made again from the documents.
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    // A large registration leaves a large log, which is cut when it has been copied into the file.
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_MAX)
}

/// A view of the index: of a transaction, or of a connection.
#[derive(Clone, Copy)]
pub(super) struct Index<'a> {
    pub(super) connection: &'a Connection,
    pub(super) path: &'a Path,
}

impl Index<'_> {
    pub(super) fn failed(&self, source: rusqlite::Error) -> CatalogError {
        failed(self.path, source)
    }

    fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize, CatalogError> {
        let run = || self.connection.prepare_cached(sql)?.execute(params);
        run().map_err(|e| self.failed(e))
    }

    fn row<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<Option<T>, CatalogError> {
        let run = || self.connection.prepare_cached(sql)?.query_row(params, read).optional();
        run().map_err(|e| self.failed(e))
    }

    fn rows<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> Result<T, rusqlite::Error>,
    ) -> Result<Vec<T>, CatalogError> {
        let run =
            || self.connection.prepare_cached(sql)?.query_map(params, read)?.collect::<Result<Vec<_>, _>>();
        run().map_err(|e| self.failed(e))
    }

    /// The segments that are indexed, with their sizes.
    pub(super) fn segments(&self) -> Result<Vec<(SegmentId, u64)>, CatalogError> {
        self.rows("SELECT number, is_base, bytes FROM segments ORDER BY number", [], |row| {
            Ok((SegmentId { number: row.get(0)?, is_base: row.get(1)? }, row.get(2)?))
        })
    }

    pub(super) fn add_segment(&self, id: SegmentId, bytes: u64) -> Result<(), CatalogError> {
        if id.is_base {
            self.execute("DELETE FROM segments", [])?;
        }
        let sql = "INSERT INTO segments (number, is_base, bytes) VALUES (?1, ?2, ?3)";
        self.execute(sql, params![id.number, id.is_base, bytes]).map(drop)
    }

    pub(super) fn live_bytes(&self) -> Result<u64, CatalogError> {
        let sql = "SELECT value FROM state WHERE name = 'live_bytes'";
        Ok(self.row(sql, [], |row| row.get::<_, i64>(0))?.map_or(0, |bytes| bytes.max(0).cast_unsigned()))
    }

    fn live(&self, change: i64) -> Result<(), CatalogError> {
        self.execute("UPDATE state SET value = value + ?1 WHERE name = 'live_bytes'", [change]).map(drop)
    }

    pub(super) fn product(&self, id: &str) -> Result<Option<ProductRow>, CatalogError> {
        let sql = "SELECT key, title, segment, is_base, offset, length FROM products WHERE id = ?1";
        self.row(sql, [id], |row| {
            let place = row.get::<_, Option<i64>>(2)?.map(|_| place(row, 2)).transpose()?;
            Ok(ProductRow { key: row.get(0)?, title: row.get(1)?, place })
        })
    }

    pub(super) fn product_ids(&self) -> Result<Vec<String>, CatalogError> {
        self.rows("SELECT id FROM products ORDER BY id", [], |row| row.get(0))
    }

    /// The key of a product, which is made if need be.
    pub(super) fn ensure_product(&self, id: &str) -> Result<i64, CatalogError> {
        let sql = "SELECT key FROM products WHERE id = ?1";
        if let Some(key) = self.row(sql, [id], |row| row.get(0))? {
            return Ok(key);
        }
        self.execute("INSERT INTO products (id, title) VALUES (?1, ?1)", [id])?;
        Ok(self.connection.last_insert_rowid())
    }

    pub(super) fn put_collection(&self, id: &str, title: &str, place: Place) -> Result<i64, CatalogError> {
        let key = self.ensure_product(id)?;
        let before = self.product(id)?.and_then(|row| row.place).map_or(0, |place| place.length);
        self.live(place.length.cast_signed() - before.cast_signed())?;
        self.execute(
            "UPDATE products SET title = ?2, segment = ?3, is_base = ?4, offset = ?5, length = ?6 WHERE key = ?1",
            params![key, title, place.segment.number, place.segment.is_base, place.offset, place.length],
        )?;
        Ok(key)
    }

    /// What the index has of an item.
    pub(super) fn known(&self, product: i64, id: &str) -> Result<Option<Known>, CatalogError> {
        let sql = "SELECT key, band_set, hash, seen, segment, is_base, offset, length FROM items
                   WHERE product = ?1 AND id = ?2";
        self.row(sql, params![product, id], |row| {
            let hash: [u8; HASH_BYTES] = row.get(2)?;
            Ok(Known {
                key: row.get(0)?,
                band_set: row.get(1)?,
                hash,
                seen: row.get(3)?,
                place: place(row, 4)?,
            })
        })
    }

    /// Notes that a registration had an item as it is.
    pub(super) fn saw(&self, known: &Known, segment: SegmentId) -> Result<(), CatalogError> {
        let sql = "UPDATE items SET seen = ?2 WHERE key = ?1";
        self.execute(sql, [known.key, segment.number]).map(drop)
    }

    /// Puts an item into the index, in the place of what was known of it; the key of its list of bands.
    pub(super) fn put(
        &self,
        product: i64,
        entry: &Entry<'_>,
        known: Option<&Known>,
        seen: i64,
    ) -> Result<i64, CatalogError> {
        let Entry { scene, bbox: [west, south, east, north], bands, place: at, hash } = entry;
        if let Some(known) = known {
            self.live(-known.place.length.cast_signed())?;
            self.forget(known.key, known.band_set)?;
        }
        let set = self.join_set(product, bands)?;
        let number = |name: &str| scene.properties.get(name).and_then(serde_json::Value::as_f64);
        let text = |name: &str| scene.properties.get(name).and_then(serde_json::Value::as_str);
        self.execute(
            "INSERT INTO items (product, id, acquired, cloud_fraction, satellite_id, west, south, east, north,
                                band_set, segment, is_base, offset, length, hash, scene, seen)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
            params![
                product,
                scene.id,
                scene.acquired.0,
                number("cloud_fraction"),
                text("satellite_id"),
                west,
                south,
                east,
                north,
                set,
                at.segment.number,
                at.segment.is_base,
                at.offset,
                at.length,
                &hash[..],
                encode(scene),
                seen,
            ],
        )?;
        let key = self.connection.last_insert_rowid();
        let time = tree_time(scene.acquired);
        // An item has two parts at most.
        for (part, area) in (2 * key..).zip(parts(entry.bbox).into_iter().take(2)) {
            self.execute(
                "INSERT INTO footprints (part, west, east, south, north, t0, t1, p0, p1)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?7 + 0.5)",
                params![part, area.west, area.east, area.south, area.north, time, product],
            )?;
        }
        self.live(at.length.cast_signed())?;
        Ok(set)
    }

    fn join_set(&self, product: i64, bands: &[(String, BandInfo)]) -> Result<i64, CatalogError> {
        let sql = "INSERT INTO band_sets (product, bands, items, place)
                   VALUES (?1, ?2, 1, (SELECT coalesce(max(place), 0) + 1 FROM band_sets WHERE product = ?1))
                   ON CONFLICT (product, bands) DO UPDATE SET items = items + 1 RETURNING key";
        let key = self.row(sql, params![product, encode_bands(bands)], |row| row.get(0))?;
        key.ok_or_else(|| self.failed(rusqlite::Error::QueryReturnedNoRows))
    }

    fn forget(&self, key: i64, set: i64) -> Result<(), CatalogError> {
        self.execute("DELETE FROM footprints WHERE part IN (?1, ?2)", [2 * key, 2 * key + 1])?;
        self.execute("UPDATE band_sets SET items = items - 1 WHERE key = ?1", [set])?;
        self.execute("DELETE FROM band_sets WHERE key = ?1 AND items = 0", [set])?;
        self.execute("DELETE FROM items WHERE key = ?1", [key]).map(drop)
    }

    /// Removes an item; whether there was one.
    pub(super) fn remove_item(&self, product: i64, id: &str) -> Result<bool, CatalogError> {
        let Some(known) = self.known(product, id)? else { return Ok(false) };
        self.live(-known.place.length.cast_signed())?;
        self.forget(known.key, known.band_set)?;
        Ok(true)
    }

    /// Removes a product with its items; how many there were.
    pub(super) fn remove_product(&self, product: i64) -> Result<u64, CatalogError> {
        let sql =
            "SELECT coalesce((SELECT sum(length) FROM items WHERE product = ?1), 0) + coalesce(length, 0)
                   FROM products WHERE key = ?1";
        let length: i64 = self.row(sql, [product], |row| row.get(0))?.unwrap_or(0);
        self.live(-length)?;
        for part in ["2 * key", "2 * key + 1"] {
            let sql =
                format!("DELETE FROM footprints WHERE part IN (SELECT {part} FROM items WHERE product = ?1)");
            self.execute(&sql, [product])?;
        }
        self.execute("DELETE FROM band_sets WHERE product = ?1", [product])?;
        let removed = self.execute("DELETE FROM items WHERE product = ?1", [product])?;
        self.execute("DELETE FROM products WHERE key = ?1", [product])?;
        Ok(removed as u64)
    }

    /// Up to `limit` ids of a product's items that no segment from this one on had.
    pub(super) fn unseen(&self, product: i64, segment: i64, limit: u32) -> Result<Vec<String>, CatalogError> {
        let sql = "SELECT id FROM items WHERE product = ?1 AND seen < ?2 LIMIT ?3";
        self.rows(sql, params![product, segment, limit], |row| row.get(0))
    }

    /// Up to `limit` ids of a product's items that were last seen in another segment than this one.
    pub(super) fn seen_elsewhere(
        &self,
        product: i64,
        segment: i64,
        limit: u32,
    ) -> Result<Vec<String>, CatalogError> {
        let sql = "SELECT id FROM items WHERE product = ?1 AND seen <> ?2 LIMIT ?3";
        self.rows(sql, params![product, segment, limit], |row| row.get(0))
    }

    /// Puts a product's lists of bands into an order.
    pub(super) fn order_sets(&self, sets: &[i64]) -> Result<(), CatalogError> {
        for (place, key) in (1_i64..).zip(sets) {
            self.execute("UPDATE band_sets SET place = ?2 WHERE key = ?1", [*key, place])?;
        }
        Ok(())
    }

    /// The products by id: title, bands in order of first appearance, number of items, first and last.
    pub(super) fn bands(&self, product: i64) -> Result<(Vec<(String, BandInfo)>, u64), CatalogError> {
        let sql = "SELECT bands, items FROM band_sets WHERE product = ?1 ORDER BY place";
        let sets = self.rows(sql, [product], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?)))?;
        let (mut union, mut count): (Vec<(String, BandInfo)>, u64) = (Vec::new(), 0);
        for (bands, items) in sets {
            count += items;
            let damaged = |e: serde_json::Error| CatalogError::Record {
                item: "a list of bands".to_owned(),
                problem: e.to_string(),
            };
            for (name, info) in decode_bands(&bands).map_err(damaged)? {
                match union.iter_mut().find(|(known, _)| *known == name) {
                    // Of several items that say different things, the first counts.
                    Some((_, known)) => {
                        known.common_name = known.common_name.take().or(info.common_name);
                        known.unit = known.unit.take().or(info.unit);
                        if known.classes.is_empty() {
                            known.classes = info.classes;
                        }
                    }
                    None => union.push((name, info)),
                }
            }
        }
        Ok((union, count))
    }

    /// First and last acquisition of a product.
    pub(super) fn acquired(&self, product: i64) -> Result<Option<(Timestamp, Timestamp)>, CatalogError> {
        // One at a time: each is a look at one end of the index.
        let end = |which: &str| {
            let sql = format!("SELECT {which}(acquired) FROM items WHERE product = ?1");
            Ok(self.row(&sql, [product], |row| row.get::<_, Option<i64>>(0))?.flatten().map(Timestamp))
        };
        Ok(end("min")?.zip(end("max")?))
    }

    /// Where an item's record is.
    pub(super) fn item_place(&self, product: i64, id: &str) -> Result<Option<Place>, CatalogError> {
        let sql = "SELECT segment, is_base, offset, length FROM items WHERE product = ?1 AND id = ?2";
        self.row(sql, params![product, id], |row| place(row, 0))
    }

    /// Up to `limit` places of a product's records whose items come after `after`, by key.
    pub(super) fn places(
        &self,
        product: i64,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Place)>, CatalogError> {
        let sql = "SELECT key, segment, is_base, offset, length FROM items
                   WHERE product = ?1 AND key > ?2 ORDER BY key LIMIT ?3";
        self.rows(sql, params![product, after, limit], |row| Ok((row.get(0)?, place(row, 1)?)))
    }

    /// The highest key of a product's items.
    pub(super) fn last_key(&self, product: i64) -> Result<i64, CatalogError> {
        let sql = "SELECT max(key) FROM items WHERE product = ?1";
        Ok(self.row(sql, [product], |row| row.get::<_, Option<i64>>(0))?.flatten().unwrap_or(0))
    }

    /// Says that an item's record moved.
    pub(super) fn moved(&self, known: &Known, to: Place) -> Result<(), CatalogError> {
        self.live(to.length.cast_signed() - known.place.length.cast_signed())?;
        self.execute(
            "UPDATE items SET segment = ?2, is_base = ?3, offset = ?4, length = ?5 WHERE key = ?1",
            params![known.key, to.segment.number, to.segment.is_base, to.offset, to.length],
        )
        .map(drop)
    }

    /// West, south, east and north of a product's boxes, as they are registered. Where some of them, but
    /// not all, go on at the other side of 180 degrees, the whole way around.
    pub(super) fn extent(&self, product: i64) -> Result<Option<Edges>, CatalogError> {
        let sql = "SELECT min(west), min(south), max(east), max(north),
                          coalesce(sum(west > east), 0) IN (0, count(*))
                   FROM items WHERE product = ?1";
        let row = |row: &rusqlite::Row<'_>| {
            let edge = |at| row.get::<_, Option<f64>>(at);
            let edges = edge(0)?.zip(edge(1)?).zip(edge(2)?.zip(edge(3)?));
            Ok((edges, row.get::<_, bool>(4)?))
        };
        Ok(self.row(sql, [product], row)?.and_then(|(edges, is_one_way)| {
            let ((w, s), (e, n)) = edges?;
            Some(if is_one_way { [w, s, e, n] } else { [-180.0, s, 180.0, n] })
        }))
    }
}

/// Time as the tree of footprints has it: ten days are as far as one degree, for the tree weighs sides of
/// boxes against each other. Single precision is rounded outwards to minutes; `items` has it exactly.
pub(super) fn tree_time(instant: Timestamp) -> f64 {
    instant.0 as f64 / (10.0 * 86_400e6)
}

/// A place in four columns.
fn place(row: &rusqlite::Row<'_>, at: usize) -> Result<Place, rusqlite::Error> {
    let segment = SegmentId { number: row.get(at)?, is_base: row.get(at + 1)? };
    Ok(Place { segment, offset: row.get(at + 2)?, length: row.get(at + 3)? })
}

/// SQLite's error as the catalog's.
pub(super) fn failed(path: &Path, source: rusqlite::Error) -> CatalogError {
    let path: PathBuf = path.to_owned();
    match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => CatalogError::Write {
            path: path.display().to_string(),
            source: std::io::ErrorKind::StorageFull.into(),
        },
        _ => CatalogError::Store { path: path.display().to_string(), source },
    }
}

//! One registration: what is new goes into a segment and the index, all of it or nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use graticule_common::hash::Hasher;
use graticule_common::scene::{BandInfo, Scene};
use rusqlite::Transaction;
use serde::{Deserialize, Serialize};

use super::CatalogError;
use super::footprint::Edges;
use super::index::{Entry, HASH_BYTES, Index};
use super::journal::Journal;
use super::node::RawDocument;
use super::replay::digest_again;
use super::stac::{self, AssetFile, Defaults, Group, Item, Kind};
use super::store::{Draft, Place, Segments};
use super::walk::DOCUMENT_BYTES_MAX;

/// What a registration says about one product.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddedProduct {
    /// Product id.
    pub id: String,
    /// Items that were not there before.
    pub new: u64,
    /// Items that say something else than before.
    pub updated: u64,
    /// Items that are as they were.
    pub unchanged: u64,
    /// Items that the collection no longer links to.
    pub removed: u64,
}

impl AddedProduct {
    /// Items of the product that the registration had.
    pub fn items(&self) -> u64 {
        self.new + self.updated + self.unchanged
    }
}

/// What a registration did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// The products that were touched, in the order of the documents.
    pub products: Vec<AddedProduct>,
    /// What its caller should know; the first of many.
    pub warnings: Vec<String>,
    /// Warnings beyond those in `warnings`.
    pub more_warnings: u64,
}

/// Warnings that are kept.
const WARNINGS_MAX: usize = 1000;
/// Records that are looked up at a time.
pub(super) const PAGE: u32 = 1000;

/// An item as it is indexed: its scene, its box, its bands in order.
pub(super) type Digested = (Scene, Edges, Vec<(String, BandInfo)>);

/// A line of a segment.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) kind: RecordKind,
    pub(super) product: String,
    /// Id of the item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) item: Option<String>,
    /// Where the document was, for messages.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    file: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    assets: Option<BTreeMap<String, AssetFile>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) document: Option<RawDocument>,
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RecordKind {
    Collection,
    Item,
    RemoveItem,
    RemoveProduct,
}

impl Record {
    pub(super) fn parse(line: &[u8]) -> Result<Record, CatalogError> {
        serde_json::from_slice(line).map_err(|e| damaged("a line of a segment", e.to_string()))
    }

    pub(super) fn removal(product: &str, item: Option<&str>) -> Record {
        let kind = if item.is_some() { RecordKind::RemoveItem } else { RecordKind::RemoveProduct };
        let (product, item) = (product.to_owned(), item.map(str::to_owned));
        Record { kind, product, item, file: String::new(), assets: None, document: None }
    }

    pub(super) fn line(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record is JSON")
    }

    /// Its line, and the digest of what it says, wherever it was read.
    pub(super) fn line_and_hash(&self) -> (Vec<u8>, [u8; HASH_BYTES]) {
        let line = self.line();
        // Files and document end a line; what is before them says where they came from.
        let said = self.file_member().and_then(|member| find(&line, &member)).unwrap_or(0);
        let mut hasher = Hasher::new("catalog record");
        hasher.bytes(&line[said..]);
        let mut hash = [0; HASH_BYTES];
        hash.copy_from_slice(&hasher.finish().as_bytes()[..HASH_BYTES]);
        (line, hash)
    }

    /// The member `file` as its line has it.
    fn file_member(&self) -> Option<Vec<u8>> {
        let file =
            (!self.file.is_empty()).then(|| serde_json::to_string(&self.file).expect("a text is JSON"));
        file.map(|file| format!("\"file\":{file},").into_bytes())
    }

    /// The item as it is indexed.
    pub(super) fn entry(&self, defaults: &Defaults) -> Result<Digested, CatalogError> {
        let lacks = || damaged(self.item.as_deref().unwrap_or(&self.product), "it is incomplete".to_owned());
        let document = self.document.as_ref().ok_or_else(lacks)?;
        let files = self.assets.as_ref().ok_or_else(lacks)?;
        digest(&self.product, stac::item(&self.file, document, defaults)?, files)
    }
}

/// Where the first occurrence of `part` in `text` ends.
fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part).map(|at| at + part.len())
}

fn digest(product: &str, item: Item, files: &BTreeMap<String, AssetFile>) -> Result<Digested, CatalogError> {
    let item = item.with_bands_of(files);
    let (bbox, bands) = (item.bbox, item.bands());
    Ok((item.scene(product, files)?, bbox, bands))
}

pub(super) fn damaged(item: &str, problem: String) -> CatalogError {
    CatalogError::Record { item: item.to_owned(), problem }
}

/// A product that a registration touches.
struct Touched {
    key: i64,
    defaults: Arc<Defaults>,
    added: AddedProduct,
    /// The file of the collection, where this registration has it.
    collection: Option<String>,
    /// Whether items that are not met are removed: the collection lists its items.
    is_whole: bool,
    /// Whether items that stay must be digested again.
    is_stale: bool,
}

/// A registration that is done but for its segment.
pub(super) struct Finished {
    pub(super) draft: Draft,
    pub(super) added: Added,
    /// Whether the index is now as replaying the segment would make it, to the order of its bands.
    pub(super) is_ordered: bool,
}

/// A registration under way, within a transaction of the index.
pub(super) struct Registration<'a> {
    index: Index<'a>,
    segments: &'a Segments,
    draft: Draft,
    /// Takes down what is registered, to do it again should another registration come first.
    journal: Option<&'a mut Journal>,
    products: Vec<(String, Touched)>,
    items: u64,
    added: Added,
}

impl<'a> Registration<'a> {
    pub(super) fn new(
        transaction: &'a Transaction<'_>,
        path: &'a std::path::Path,
        segments: &'a Segments,
        draft: Draft,
        journal: Option<&'a mut Journal>,
    ) -> Self {
        let index = Index { connection: transaction, path };
        let (products, added) = (Vec::new(), Added::default());
        Registration { index, segments, draft, journal, products, items: 0, added }
    }

    /// Items and collections so far.
    pub(super) fn items(&self) -> u64 {
        self.items
    }

    pub(super) fn warn(&mut self, text: String) {
        if self.added.warnings.len() < WARNINGS_MAX {
            self.added.warnings.push(text);
        } else {
            self.added.more_warnings += 1;
        }
    }

    fn touch(&mut self, product: &str) -> Result<&mut Touched, CatalogError> {
        if let Some(at) = self.products.iter().position(|(id, _)| id == product) {
            return Ok(&mut self.products[at].1);
        }
        let place = self.index.product(product)?.and_then(|row| row.place);
        let defaults = match place {
            Some(place) => {
                let record = Record::parse(&self.segments.read(place)?)?;
                record.document.as_ref().map(Defaults::of).unwrap_or_default()
            }
            None => Defaults::default(),
        };
        let touched = Touched {
            key: self.index.ensure_product(product)?,
            defaults: Arc::new(defaults),
            added: AddedProduct { id: product.to_owned(), ..AddedProduct::default() },
            collection: None,
            is_whole: false,
            is_stale: false,
        };
        self.products.push((product.to_owned(), touched));
        Ok(&mut self.products.last_mut().expect("it was pushed").1)
    }

    /// What a product's collection says of all items.
    pub(super) fn defaults(&mut self, product: &str) -> Result<Arc<Defaults>, CatalogError> {
        self.touch(product).map(|touched| Arc::clone(&touched.defaults))
    }

    fn note(&mut self, follows: bool, line: &[u8]) -> Result<(), CatalogError> {
        self.journal.as_mut().map_or(Ok(()), |journal| journal.append(follows, line))
    }

    /// Registers again what a journal has.
    pub(super) fn repeat(&mut self, journal: &mut Journal) -> Result<(), CatalogError> {
        journal.each(|follows, line| {
            let record = Record::parse(line)?;
            let lacks = || damaged(&record.product, "it is incomplete".to_owned());
            match record.kind {
                RecordKind::RemoveItem | RecordKind::RemoveProduct => {
                    self.remove(&record.product, record.item.as_deref()).map(drop)
                }
                RecordKind::Collection => {
                    let document = record.document.ok_or_else(lacks)?;
                    let Kind::Group(group) = stac::kind(&record.file, &document)? else {
                        return Err(damaged(&record.product, "it is no collection".to_owned()));
                    };
                    self.collection(&record.file, &group, document, follows)
                }
                RecordKind::Item => {
                    let files = record.assets.clone().ok_or_else(lacks)?;
                    let document = record.document.ok_or_else(lacks)?;
                    let item = stac::item(&record.file, &document, &*self.defaults(&record.product)?)?;
                    self.item(record.product, item, &record.file, document, files)
                }
            }
        })
    }

    /// Registers a collection. Where its links are followed, they list all of its items.
    pub(super) fn collection(
        &mut self,
        file: &str,
        group: &Group,
        document: RawDocument,
        is_followed: bool,
    ) -> Result<(), CatalogError> {
        let touched = self.touch(&group.id)?;
        if let Some(first) = &touched.collection {
            return Err(CatalogError::Duplicate {
                kind: "collection",
                id: group.id.clone(),
                first: first.clone(),
                second: file.to_owned(),
            });
        }
        touched.collection = Some(file.to_owned());
        touched.is_whole = is_followed && !group.links.is_empty();
        let defaults = Defaults::of(&document);
        touched.is_stale = defaults != *touched.defaults;
        touched.defaults = Arc::new(defaults);
        let record = Record {
            kind: RecordKind::Collection,
            product: group.id.clone(),
            item: None,
            file: file.to_owned(),
            assets: None,
            document: Some(document),
        };
        let line = record.line();
        self.note(is_followed, &line)?;
        let known = self.index.product(&group.id)?.and_then(|row| row.place);
        let is_known = match known {
            Some(place) => self.segments.read(place)? == line,
            None => false,
        };
        if !is_known {
            let place = self.draft.append(&line)?;
            self.index.put_collection(&group.id, &group.title, place)?;
        }
        Ok(())
    }

    /// Registers an item with the files that were found for it.
    pub(super) fn item(
        &mut self,
        product: String,
        item: Item,
        file: &str,
        document: RawDocument,
        files: BTreeMap<String, AssetFile>,
    ) -> Result<(), CatalogError> {
        self.items += 1;
        let segment = self.draft.id();
        let id = item.id.clone();
        let (scene, bbox, bands) = digest(&product, item, &files)?;
        let record = Record {
            kind: RecordKind::Item,
            product,
            item: Some(id),
            file: file.to_owned(),
            assets: Some(files),
            document: Some(document),
        };
        let (line, hash) = record.line_and_hash();
        self.note(false, &line)?;
        let (index, key) = (self.index, self.touch(&record.product)?.key);
        let known = index.known(key, &scene.id)?;
        if let Some(known) = known.filter(|known| known.seen == segment.number) {
            let first = if known.place.segment == segment {
                self.draft.read(known.place)?
            } else {
                self.segments.read(known.place)?
            };
            return Err(CatalogError::Duplicate {
                kind: "item",
                id: scene.id,
                first: Record::parse(&first)?.file,
                second: file.to_owned(),
            });
        }
        if let Some(known) = &known
            && known.hash == hash
        {
            index.saw(known, segment)?;
            self.touch(&record.product)?.added.unchanged += 1;
            return Ok(());
        }
        if line.len() as u64 > 2 * DOCUMENT_BYTES_MAX {
            return Err(CatalogError::DocumentSize { file: file.to_owned(), limit: DOCUMENT_BYTES_MAX });
        }
        let place = self.draft.append(&line)?;
        let entry = Entry { scene: &scene, bbox, bands: &bands, place, hash };
        index.put(key, &entry, known.as_ref(), segment.number)?;
        let added = &mut self.touch(&record.product)?.added;
        *(if known.is_some() { &mut added.updated } else { &mut added.new }) += 1;
        Ok(())
    }

    /// Removes an item, or a product with all its items; how many items went.
    pub(super) fn remove(&mut self, product: &str, item: Option<&str>) -> Result<u64, CatalogError> {
        let Some(row) = self.index.product(product)? else {
            let available = graticule_common::error::listing(self.index.product_ids()?);
            return Err(CatalogError::UnknownProduct { product: product.to_owned(), available });
        };
        let line = Record::removal(product, item).line();
        self.note(false, &line)?;
        self.draft.append(&line)?;
        match item {
            None => self.index.remove_product(row.key),
            Some(item) if self.index.remove_item(row.key, item)? => Ok(1),
            Some(item) => {
                Err(CatalogError::UnknownItem { product: product.to_owned(), item: item.to_owned() })
            }
        }
    }

    /// Removes what whole collections no longer have, digests again what must be.
    pub(super) fn finish(mut self) -> Result<Finished, CatalogError> {
        let segment = self.draft.id();
        let is_ordered = !self.products.iter().any(|(_, touched)| touched.is_stale);
        for (product, touched) in &mut self.products {
            while touched.is_whole {
                let gone = self.index.unseen(touched.key, segment.number, PAGE)?;
                if gone.is_empty() {
                    break;
                }
                for id in gone {
                    self.draft.append(&Record::removal(product, Some(&id)).line())?;
                    self.index.remove_item(touched.key, &id)?;
                    touched.added.removed += 1;
                }
            }
            if touched.is_stale {
                let draft = &mut self.draft;
                let read = &mut |place: Place| {
                    if place.segment == segment { draft.read(place) } else { self.segments.read(place) }
                };
                digest_again(self.index, touched.key, &touched.defaults, read)?;
            }
        }
        self.added.products = self.products.into_iter().map(|(_, touched)| touched.added).collect();
        Ok(Finished { draft: self.draft, added: self.added, is_ordered })
    }
}

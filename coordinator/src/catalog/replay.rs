//! What segments say, put into an index. Every coordinator has an index of its own, made here from the
//! same segments in the same order: so they answer alike.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::CatalogError;
use super::add::{PAGE, Record, RecordKind, damaged};
use super::index::{Entry, Index};
use super::stac::Defaults;
use super::store::{Place, SegmentId, Segments};

/// Digests a product's items with what its collection now says of them.
pub(super) fn digest_again(
    index: Index<'_>,
    product: i64,
    defaults: &Defaults,
    read: &mut dyn FnMut(Place) -> Result<Vec<u8>, CatalogError>,
) -> Result<(), CatalogError> {
    // Digesting gives an item a new key, above all others: those above this one are new.
    let last = index.last_key(product)?;
    let mut after = 0;
    loop {
        let page = index.places(product, after, PAGE)?;
        for (key, place) in &page {
            if *key > last {
                return Ok(());
            }
            after = *key;
            let record = Record::parse(&read(*place)?)?;
            let (scene, bbox, bands) = record.entry(defaults)?;
            let known = index.known(product, &scene.id)?;
            let (_, hash) = record.line_and_hash();
            let entry = Entry { scene: &scene, bbox, bands: &bands, place: *place, hash };
            index.put(product, &entry, known.as_ref(), known.map_or(0, |known| known.seen))?;
        }
        if page.is_empty() {
            return Ok(());
        }
    }
}

/// Puts a segment's records into an index. A base says all that counts: what it does not have goes.
pub(super) fn replay(
    index: Index<'_>,
    segments: &Segments,
    segment: SegmentId,
    bytes: u64,
) -> Result<(), CatalogError> {
    segments.fetch(segment, bytes)?;
    let mut replay = Replay { index, segments, segment, defaults: BTreeMap::new(), met: BTreeMap::new() };
    segments.replay(segment, |place, line| replay.take(place, line))?;
    if segment.is_base {
        replay.drop_others()?;
    }
    index.add_segment(segment, bytes)
}

/// A segment that is being replayed.
struct Replay<'a> {
    index: Index<'a>,
    segments: &'a Segments,
    segment: SegmentId,
    defaults: BTreeMap<String, Arc<Defaults>>,
    /// Of a base: its products, each with its lists of bands in the order of their first items.
    met: BTreeMap<i64, Vec<i64>>,
}

impl Replay<'_> {
    fn take(&mut self, place: Place, line: &[u8]) -> Result<(), CatalogError> {
        let record = Record::parse(line)?;
        let (index, product) = (self.index, record.product.as_str());
        match record.kind {
            RecordKind::Collection => self.collection(place, &record),
            RecordKind::Item => self.item(place, &record),
            RecordKind::RemoveItem => {
                if let (Some(row), Some(item)) = (index.product(product)?, &record.item) {
                    index.remove_item(row.key, item)?;
                }
                Ok(())
            }
            RecordKind::RemoveProduct => {
                if let Some(row) = index.product(product)? {
                    index.remove_product(row.key)?;
                }
                self.defaults.remove(product);
                Ok(())
            }
        }
    }

    /// What the collection that the index has of a product says of its items.
    fn indexed_defaults(&self, product: &str) -> Result<Defaults, CatalogError> {
        let place = self.index.product(product)?.and_then(|row| row.place);
        let record = place.map(|place| Record::parse(&self.segments.read(place)?)).transpose()?;
        let document = record.as_ref().and_then(|record| record.document.as_ref());
        Ok(document.map(Defaults::of).unwrap_or_default())
    }

    fn collection(&mut self, place: Place, record: &Record) -> Result<(), CatalogError> {
        let product = record.product.as_str();
        let document = record.document.as_ref();
        let document = document.ok_or_else(|| damaged(product, "it is incomplete".to_owned()))?;
        let before = self.indexed_defaults(product)?;
        let title = document.members.get("title").and_then(|title| title.as_str()).unwrap_or(product);
        let key = self.index.put_collection(product, title, place)?;
        let defaults = Defaults::of(document);
        if before != defaults {
            digest_again(self.index, key, &defaults, &mut |place| self.segments.read(place))?;
        }
        self.defaults.insert(product.to_owned(), Arc::new(defaults));
        if self.segment.is_base {
            self.met.entry(key).or_default();
        }
        Ok(())
    }

    fn item(&mut self, place: Place, record: &Record) -> Result<(), CatalogError> {
        let (index, product) = (self.index, record.product.as_str());
        let key = index.ensure_product(product)?;
        let defaults = match self.defaults.get(product) {
            Some(defaults) => Arc::clone(defaults),
            None => {
                let defaults = Arc::new(self.indexed_defaults(product)?);
                self.defaults.insert(product.to_owned(), Arc::clone(&defaults));
                defaults
            }
        };
        let (_, hash) = record.line_and_hash();
        let id = record.item.as_deref().unwrap_or_default();
        let known = index.known(key, id)?;
        let set = match known {
            // It says what the index has: only its place is another.
            Some(known) if known.hash == hash => {
                index.saw(&known, self.segment)?;
                index.moved(&known, place)?;
                known.band_set
            }
            known => {
                let (scene, bbox, bands) = record.entry(&defaults)?;
                let entry = Entry { scene: &scene, bbox, bands: &bands, place, hash };
                index.put(key, &entry, known.as_ref(), self.segment.number)?
            }
        };
        if self.segment.is_base {
            let sets = self.met.entry(key).or_default();
            if !sets.contains(&set) {
                sets.push(set);
            }
        }
        Ok(())
    }

    /// Removes what a base does not have, and puts lists of bands into its order.
    fn drop_others(&mut self) -> Result<(), CatalogError> {
        let index = self.index;
        for id in index.product_ids()? {
            let Some(row) = index.product(&id)? else { continue };
            let Some(sets) = self.met.get(&row.key) else {
                index.remove_product(row.key)?;
                continue;
            };
            loop {
                let gone = index.seen_elsewhere(row.key, self.segment.number, PAGE)?;
                if gone.is_empty() {
                    break;
                }
                for item in gone {
                    index.remove_item(row.key, &item)?;
                }
            }
            index.order_sets(sets)?;
        }
        Ok(())
    }
}

//! A catalog in memory whose scenes are formulas: no files, any number.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use graticule_common::grid::Crs;
use graticule_common::proto::v1 as pb;
use graticule_common::scene::{
    Affine, Asset, AssetGrid, BandSource, LonLatBox, Product, Properties, Scene, SceneQuery, SourceRef,
    Timestamp,
};
use graticule_coordinator::catalog::{CatalogError, SceneCatalog};
use serde_json::json;

use crate::client::request;

/// The sample imagery's area, which made-up scenes cover too: west, south, east, north in [`CRS`].
pub const AREA: [f64; 4] = [336_375.0, 4_460_595.0, 338_205.0, 4_462_425.0];

/// CRS of [`AREA`].
pub const CRS: &str = "EPSG:32613";

/// Products in memory.
#[derive(Debug, Default)]
pub struct MadeUp {
    products: BTreeMap<String, (Product, Vec<Scene>)>,
}

impl MadeUp {
    /// Adds a series of images, one a day. Bands have an asset each; together they cover [`AREA`].
    pub fn with(self, product: &str, images: usize, bands: &[&str]) -> MadeUp {
        let [west, south, east, north] = AREA;
        let raster = AssetGrid {
            crs: Crs::from_canonical(CRS),
            affine: Affine::upright((west, north), 30.0, -30.0),
            rows: ((north - south) / 30.0) as u32,
            cols: ((east - west) / 30.0) as u32,
        };
        self.series(product, images, bands, |_| Some(raster.clone()))
    }

    /// Adds a series of images, one a day, that are everywhere, in whatever CRS they are asked for.
    pub fn with_everywhere(self, product: &str, images: usize, bands: &[&str]) -> MadeUp {
        self.series(product, images, bands, |_| None)
    }

    /// Adds a series of images, one a day, on grids of their own.
    pub fn series(
        mut self,
        product: &str,
        images: usize,
        bands: &[&str],
        grid: impl Fn(usize) -> Option<AssetGrid>,
    ) -> MadeUp {
        const DAY_US: i64 = 86_400_000_000;
        let scene = |at: usize| {
            let id = format!("{product}-{at:04}");
            let acquired = Timestamp(at as i64 * DAY_US);
            let band = |name: &&str| {
                let source = SourceRef::Synthetic(format!("{id}/{name}"));
                let asset = Asset::new(format!("asset-{name}"), source, "1");
                let asset = Arc::new(Asset { raster: grid(at), ..asset });
                let source = BandSource { sample_bytes: Some(4), ..BandSource::new(asset, 1) };
                ((*name).to_owned(), source)
            };
            let mut properties = Properties::new();
            properties.insert("id".into(), id.as_str().into());
            properties.insert("acquired".into(), acquired.to_string().into());
            Scene {
                product: product.to_owned(),
                acquired,
                properties: Arc::new(properties),
                bands: bands.iter().map(band).collect(),
                id: id.clone(),
            }
        };
        let names = bands.iter().map(|band| (*band).to_owned()).collect();
        let known = Product { scenes: images as u64, ..Product::new(product, names) };
        self.products.insert(product.to_owned(), (known, (0..images).map(scene).collect()));
        self
    }
}

#[async_trait]
impl SceneCatalog for MadeUp {
    fn generation(&self) -> Option<u64> {
        // Whoever asks it has it as it stays.
        Some(0)
    }

    async fn products(&self) -> Result<Vec<Product>, CatalogError> {
        Ok(self.products.values().map(|(product, _)| product.clone()).collect())
    }

    async fn search(
        &self,
        query: &SceneQuery,
        _: &LonLatBox,
        scenes_max: usize,
    ) -> Result<Vec<Scene>, CatalogError> {
        let Some((product, scenes)) = self.products.get(&query.product) else {
            let available = self.products.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(CatalogError::UnknownProduct { product: query.product.clone(), available });
        };
        let in_range = |scene: &&Scene| {
            query.start.is_none_or(|start| start <= scene.acquired)
                && query.end.is_none_or(|end| scene.acquired < end)
                && query.predicate.as_ref().is_none_or(|predicate| predicate.holds(&scene.properties))
        };
        let found: Vec<Scene> = scenes.iter().filter(in_range).cloned().collect();
        if found.len() > scenes_max {
            let (product, limit) = (product.id.clone(), scenes_max);
            return Err(CatalogError::TooManyScenes { product, limit });
        }
        Ok(found)
    }

    async fn scenes_by_id(&self, ids: &[String]) -> Result<Vec<Scene>, CatalogError> {
        let scenes = || self.products.values().flat_map(|(_, scenes)| scenes);
        let find = |id: &String| scenes().find(|scene| scene.id == *id).cloned();
        let unknown = |id: &String| CatalogError::UnknownImage { id: id.clone() };
        ids.iter().map(|id| find(id).ok_or_else(|| unknown(id))).collect()
    }
}

/// A graft: all scenes of a product as a stack, its definitions and the key that is the result.
fn graft(product: &str, bands: &str, rest: serde_json::Value, returns: &str) -> String {
    let mut graft = json!({
        "product": product, "bands": bands, "zero": 0, "near": "near", "yes": true, "none": null,
        "scenes": ["select_scenes", "product", "bands", {
            "start_datetime": "none", "end_datetime": "none", "predicate_filter": "none",
            "sort_by": "none", "ascending": "yes", "pad": "zero",
        }],
        "stack": ["stack_scenes", "scenes", "bands", {"pad": "zero", "resampler": "near"}],
        "returns": returns,
    });
    if let (Some(graft), serde_json::Value::Object(rest)) = (graft.as_object_mut(), rest) {
        graft.extend(rest);
    }
    graft.to_string()
}

/// All images of a product, unchanged.
pub fn stack(product: &str, bands: &str) -> String {
    graft(product, bands, json!({}), "stack")
}

/// A product reduced over its images.
pub fn reduce(product: &str, bands: &str, how: &str) -> String {
    let rest = json!({
        "how": how, "images": "images", "of": "ImageStack",
        "result": ["reduction", "stack", "how", "images", "of"],
    });
    graft(product, bands, rest, "result")
}

/// The greatest of all images, `m`, and what is made of it over all pixels: `returns` names `m` itself,
/// `mean`, `median` or `max` of its pixels, `less` (m - mean), `nested` (the median of |less|), `all`, an
/// object of most of them, or `images of`, the number of images.
pub fn over_pixels(product: &str, bands: &str, returns: &str) -> String {
    let over = |of: &str, how: &str| json!(["reduction", of, how, "pixels", "mosaic"]);
    let rest = json!({
        "pixels": "pixels", "images": "images", "mosaic": "Mosaic", "imagestack": "ImageStack",
        "of max": "max", "of mean": "mean", "of median": "median", "minus": "sub",
        "m": ["reduction", "stack", "of max", "images", "imagestack"],
        "mean": over("m", "of mean"), "median": over("m", "of median"), "max": over("m", "of max"),
        "less": ["math", "minus", "m", "mean"], "size": ["abs", "less"],
        "nested": over("size", "of median"), "seven": 7, "images of": ["length", "stack"],
        "each": ["reduction", "stack", "of median", "pixels", "imagestack"],
        "all": ["object", {"m": "m", "mean": "mean", "seven": "seven", "less": "less", "nested": "nested", "each": "each"}],
    });
    graft(product, bands, rest, returns)
}

/// The median over time of (first − second) / (first + second), masked where the third exceeds 5.
pub fn masked_index(product: &str, bands: [&str; 3]) -> String {
    let [first, second, third] = bands.map(|band| json!([band]).to_string());
    let rest = json!({
        "pick": "pick_bands", "one": first, "two": second, "three": third,
        "a": ["band_op", "stack", "pick", "one", "none"],
        "b": ["band_op", "stack", "pick", "two", "none"],
        "c": ["band_op", "stack", "pick", "three", "none"],
        "minus": "sub", "plus": "add", "over": "truediv", "more": "gt", "five": 5,
        "difference": ["math", "minus", "a", "b"],
        "total": ["math", "plus", "a", "b"],
        "index": ["math", "over", "difference", "total"],
        "bad": ["math", "more", "c", "five"],
        "clear": ["mask", "index", "bad"],
        "how": "median", "images": "images", "of": "ImageStack",
        "result": ["reduction", "clear", "how", "images", "of"],
    });
    graft(product, &bands.join(" "), rest, "result")
}

/// A request for a graft on [`AREA`], 61 × 61 pixels.
pub fn on_area(graft: &str) -> pb::ComputeRequest {
    request(graft, CRS, AREA, 30.0)
}

//! A scene as the index keeps it: digested at registration, so that a search reads no STAC document.

use std::collections::BTreeMap;
use std::sync::Arc;

use graticule_common::grid::Crs;
use graticule_common::scene::{
    Affine, Asset, AssetGrid, BandInfo, BandSource, ClassInfo, Format, Properties, Scene, SourceRef, Store,
    Timestamp,
};
use serde::{Deserialize, Serialize};

use super::CatalogError;

/// A scene without what the index has in columns. Short names: there may be millions.
#[derive(Serialize, Deserialize)]
struct Digest {
    #[serde(rename = "p")]
    properties: Properties,
    #[serde(rename = "a")]
    assets: Vec<AssetDigest>,
    #[serde(rename = "b")]
    bands: Vec<BandDigest>,
}

#[derive(Serialize, Deserialize)]
struct AssetDigest {
    #[serde(rename = "k")]
    key: String,
    #[serde(rename = "h")]
    href: String,
    #[serde(rename = "v", default, skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    format: Option<String>,
    #[serde(rename = "s", default, skip_serializing_if = "Vec::is_empty")]
    sidecars: Vec<String>,
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    grid: Option<GridDigest>,
}

/// CRS, affine numbers, rows and columns.
#[derive(Serialize, Deserialize)]
struct GridDigest(String, [f64; 6], u32, u32);

#[derive(Serialize, Deserialize)]
struct BandDigest {
    #[serde(rename = "n")]
    name: String,
    /// Place in `assets`.
    #[serde(rename = "a", default, skip_serializing_if = "is_zero")]
    asset: usize,
    #[serde(rename = "b")]
    band: u32,
    /// Bits, for NaN is no JSON.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    nodata: Option<u64>,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    scale_offset: Option<(f64, f64)>,
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    sample_bytes: Option<u32>,
    #[serde(rename = "c", default, skip_serializing_if = "std::ops::Not::not")]
    is_classes: bool,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// What the index keeps of a scene.
pub(super) fn encode(scene: &Scene) -> Vec<u8> {
    let mut assets: Vec<&Arc<Asset>> = Vec::new();
    let mut bands = Vec::with_capacity(scene.bands.len());
    for (name, band) in &scene.bands {
        let known = assets.iter().position(|asset| Arc::ptr_eq(asset, &band.asset));
        let asset = known.unwrap_or_else(|| {
            assets.push(&band.asset);
            assets.len() - 1
        });
        bands.push(BandDigest {
            name: name.clone(),
            asset,
            band: band.band,
            nodata: band.nodata.map(f64::to_bits),
            scale_offset: band.scale_offset,
            sample_bytes: band.sample_bytes,
            is_classes: band.is_classes,
        });
    }
    let assets = assets.into_iter().map(|asset| AssetDigest {
        key: asset.key.clone(),
        href: asset.source.to_string(),
        version: asset.version.clone(),
        format: (asset.format != Format::Image).then(|| asset.format.name().to_owned()),
        sidecars: asset.sidecars.clone(),
        grid: asset.raster.as_ref().map(|grid| {
            GridDigest(grid.crs.as_str().to_owned(), grid.affine.numbers(), grid.rows, grid.cols)
        }),
    });
    let digest = Digest { properties: (*scene.properties).clone(), assets: assets.collect(), bands };
    serde_json::to_vec(&digest).expect("texts and numbers are JSON")
}

/// The scene that was digested.
pub(super) fn decode(
    product: &str,
    id: String,
    acquired: Timestamp,
    bytes: &[u8],
) -> Result<Scene, CatalogError> {
    let damaged = |item: &str, problem: String| CatalogError::Record { item: item.to_owned(), problem };
    let digest: Digest = serde_json::from_slice(bytes).map_err(|e| damaged(&id, e.to_string()))?;
    let mut assets = Vec::with_capacity(digest.assets.len());
    for asset in digest.assets {
        let source =
            source(&asset.href).ok_or_else(|| damaged(&id, format!("`{}` is no place", asset.href)))?;
        let raster = asset.grid.map(|GridDigest(crs, [x, y, col_x, col_y, row_x, row_y], rows, cols)| {
            let affine = Affine { origin: (x, y), col: (col_x, col_y), row: (row_x, row_y) };
            AssetGrid { crs: Crs::from_canonical(crs), affine, rows, cols }
        });
        let format = asset.format.as_deref().and_then(Format::from_name).unwrap_or_default();
        let sidecars = asset.sidecars;
        assets.push(Arc::new(Asset {
            raster,
            format,
            sidecars,
            ..Asset::new(asset.key, source, asset.version)
        }));
    }
    let mut bands = BTreeMap::new();
    for band in digest.bands {
        let asset = assets.get(band.asset).ok_or_else(|| damaged(&id, "a band without asset".to_owned()))?;
        let source = BandSource {
            nodata: band.nodata.map(f64::from_bits),
            scale_offset: band.scale_offset,
            sample_bytes: band.sample_bytes,
            is_classes: band.is_classes,
            ..BandSource::new(Arc::clone(asset), band.band)
        };
        bands.insert(band.name, source);
    }
    let properties = Arc::new(digest.properties);
    Ok(Scene { id, product: product.to_owned(), acquired, properties, bands })
}

/// The place that a registered href names: an absolute path, or a URL of a known scheme.
pub(super) fn source(href: &str) -> Option<SourceRef> {
    if href.starts_with('/') {
        return Some(SourceRef::Local(href.to_owned()));
    }
    let (scheme, rest) = href.split_once("://")?;
    if let "http" | "https" = scheme {
        return Some(SourceRef::Http(href.to_owned()));
    }
    let (store, (bucket, key)) = (Store::from_scheme(scheme)?, rest.split_once('/')?);
    let named = !bucket.is_empty() && !key.is_empty();
    named.then(|| SourceRef::Object { store, bucket: bucket.to_owned(), key: key.to_owned() })
}

/// A band's description as the index keeps it.
#[derive(Serialize, Deserialize)]
struct InfoDigest {
    n: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    c: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    u: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    k: Vec<(i64, String, Option<[u8; 3]>)>,
}

/// Bands with what is known about them, in order.
pub(super) fn encode_bands(bands: &[(String, BandInfo)]) -> String {
    let digests: Vec<InfoDigest> = bands
        .iter()
        .map(|(name, info)| InfoDigest {
            n: name.clone(),
            c: info.common_name.clone(),
            u: info.unit.clone(),
            k: info.classes.iter().map(|class| (class.value, class.name.clone(), class.color)).collect(),
        })
        .collect();
    serde_json::to_string(&digests).expect("texts and numbers are JSON")
}

/// What [`encode_bands`] wrote.
pub(super) fn decode_bands(text: &str) -> Result<Vec<(String, BandInfo)>, serde_json::Error> {
    let digests: Vec<InfoDigest> = serde_json::from_str(text)?;
    let class = |(value, name, color)| ClassInfo { value, name, color };
    let info = |digest: InfoDigest| {
        let classes = digest.k.into_iter().map(class).collect();
        (digest.n, BandInfo { common_name: digest.c, unit: digest.u, classes })
    };
    Ok(digests.into_iter().map(info).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_survives() {
        let grid = AssetGrid {
            crs: Crs::from_canonical("EPSG:32613"),
            affine: Affine { origin: (0.1, -5.0), col: (10.0, 0.25), row: (0.5, -10.0) },
            rows: 3,
            cols: 4,
        };
        let object = SourceRef::Object { store: Store::Az, bucket: "b".into(), key: "k/é l.tif".into() };
        let first = Arc::new(Asset {
            raster: Some(grid),
            format: Format::Vrt,
            sidecars: vec!["a.tif.ovr".into()],
            ..Asset::new("one", SourceRef::Local("/a b/c.tif".into()), "12-34")
        });
        let second = Arc::new(Asset::new("two", object, ""));
        let band = |asset: &Arc<Asset>, number| BandSource::new(asset.clone(), number);
        let bands = BTreeMap::from([
            ("a".to_owned(), BandSource { nodata: Some(f64::NEG_INFINITY), ..band(&first, 1) }),
            ("b".to_owned(), BandSource { is_classes: true, sample_bytes: Some(2), ..band(&second, 7) }),
            ("c".to_owned(), BandSource { scale_offset: Some((1e-4, -0.1)), ..band(&first, 2) }),
        ]);
        let properties = Arc::new(Properties::from([("x".to_owned(), serde_json::json!([1, null, 0.1]))]));
        let scene = Scene { id: "i".into(), product: "p".into(), acquired: Timestamp(7), properties, bands };
        let again = decode("p", "i".into(), Timestamp(7), &encode(&scene)).unwrap();
        assert_eq!(again, scene);
        assert!(Arc::ptr_eq(&again.bands["a"].asset, &again.bands["c"].asset));

        let nan = BandSource { nodata: Some(f64::NAN), ..band(&second, 1) };
        let scene = Scene { bands: BTreeMap::from([("n".to_owned(), nan)]), ..scene };
        let again = decode("p", "i".into(), Timestamp(7), &encode(&scene)).unwrap();
        assert!(again.bands["n"].nodata.unwrap().is_nan());
    }

    #[test]
    fn only_known_places() {
        for href in ["a.tif", "ftp://a/b", "s3://bucket", "s3:///key", "s3://bucket/", "", "MEM:::", "vsi/a"]
        {
            assert_eq!(source(href), None, "{href}");
        }
    }
}

//! Where pixels come from: `select_scenes` asks the catalog, `stack_scenes`, `mosaic` and `from_image_ids`
//! read.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::bands::band_names;
use super::{Arg, BindCx, Bound, Facts, Kernel, Op, OpDoc, Props, SceneSet, TypeError, optional, required};
use crate::grid::Grid;
use crate::limits::PAD_MAX;
use crate::literal::Literal;
use crate::predicate::Predicate;
use crate::scene::{AssetGrid, Layout, Properties, Resampler, Scene, SceneQuery, Timestamp};
use crate::transform::Transform;

/// The ops of this family.
pub const OPS: &[&dyn Op] = &[&SelectScenes, &StackScenes, &Mosaic, &FromImageIds];

/// `select_scenes(product_id, bands; start_datetime, end_datetime, predicate_filter, sort_by, ascending, pad)`.
#[derive(Debug)]
pub struct SelectScenes;

impl SelectScenes {
    /// What a call with these arguments asks of the catalog.
    pub fn query(args: &[Arg<'_>]) -> Result<SceneQuery, TypeError> {
        Ok(SceneQuery { predicate: predicate(&args[4])?, ..query(&args[0], (&args[2], &args[3]))? })
    }
}

/// What is asked of the catalog for a product and a range of dates.
fn query(product: &Arg<'_>, (start, end): (&Arg<'_>, &Arg<'_>)) -> Result<SceneQuery, TypeError> {
    let instant = |arg: &Arg<'_>, name: &'static str| -> Result<Option<Timestamp>, TypeError> {
        if arg.is_null() {
            return Ok(None);
        }
        let text = arg.text(name)?;
        let expected = || {
            "an ISO 8601 date such as `2024-06-01` or `2024-06-01T00:00:00`, or a parameter that the request gives a value"
                .into()
        };
        let bad = || TypeError::Value { name, expected: expected(), value: text.into() };
        Timestamp::parse(text).map(Some).ok_or_else(bad)
    };
    Ok(SceneQuery {
        product: product.text("product_id")?.to_owned(),
        start: instant(start, "start_datetime")?,
        end: instant(end, "end_datetime")?,
        predicate: None,
        pad: 0,
    })
}

/// The product a query asks for, and its scenes on the grid by time and id.
fn selection(cx: &BindCx<'_>, query: &SceneQuery) -> Result<SceneSet, TypeError> {
    let unknown = || TypeError::Value {
        name: "product_id",
        expected: "a product of the catalog".into(),
        value: query.product.clone(),
    };
    let answer = cx.answers.get(query).ok_or_else(unknown)?;
    let area = cx.grid.pad(query.pad);
    let touching = answer.scenes.iter().filter(|scene| may_touch(scene, &area, cx.transform));
    let mut scenes: Vec<Scene> = touching.cloned().collect();
    scenes.sort_by(|a, b| (a.acquired, &a.id).cmp(&(b.acquired, &b.id)));
    Ok(SceneSet { product: answer.product.clone(), scenes })
}

impl Op for SelectScenes {
    fn name(&self) -> &'static str {
        "select_scenes"
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: "Scenes of a product with start <= acquired < end that touch the AOI, by time, or by `sort_by`; padding selects no more.",
            params: const {
                &[
                    required("product_id"),
                    required("bands"),
                    optional("start_datetime"),
                    optional("end_datetime"),
                    optional("predicate_filter"),
                    optional("sort_by"),
                    optional("ascending"),
                    optional("pad"),
                ]
            },
            shapes: "Names of a product, bands and dates; the result is a list of scenes, for `stack_scenes`.",
            units: "None.",
            validity: "Has no pixels.",
            accuracy: "Exact.",
            source: "The published client's op of this name.",
        }
    }

    fn example(&self) -> serde_json::Value {
        serde_json::json!({
            "product": "made:up",
            "bands": "b a",
            "start": "2024-01-01",
            "clear": [{"op": "lt", "name": "cloud_fraction", "val": 0.5}],
            "scenes": ["select_scenes", "product", "bands", {"start_datetime": "start", "predicate_filter": "clear"}],
            "stack": ["stack_scenes", "scenes", "bands"],
            "returns": "stack",
        })
    }

    fn bind(&self, cx: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let query = SelectScenes::query(args)?;
        let sort_by = if args[5].is_null() { "acquired" } else { args[5].text("sort_by")? };
        let ascending = match args[6].literal("ascending")? {
            Literal::Null => true,
            Literal::Bool(ascending) => *ascending,
            _ => return Err(args[6].not("ascending", "true or false")),
        };
        // Without a property to sort by, time goes forward, whatever the direction.
        let ascending = ascending || args[5].is_null();
        padding(&args[7])?;
        let SceneSet { product, mut scenes } = selection(cx, &query)?;
        known_bands(&band_names(&args[1], "bands")?, &product.id, &product.bands)?;
        sort(&mut scenes, sort_by, ascending);
        Ok(Bound::Scenes(SceneSet { product, scenes }))
    }

    fn infer(&self, _: &[Literal], _: &[Facts]) -> Result<Facts, TypeError> {
        Err(TypeError::Unsupported { what: "`select_scenes` in a plan".into() })
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        Kernel::Bind
    }
}

/// `stack_scenes(scenes, bands; pad, resampler)`.
#[derive(Debug)]
pub struct StackScenes;

impl Op for StackScenes {
    fn name(&self) -> &'static str {
        "stack_scenes"
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: "One image for each scene, with the named bands in physical units.",
            params: const { &[required("scenes"), required("bands"), optional("pad"), optional("resampler")] },
            shapes: "Scenes and names of bands; the result is a stack, float32.",
            units: "Physical units of each band: stored values by the scale and offset of the product.",
            validity: "Valid inside the scene where the file has a value: not nodata, not NaN.",
            accuracy: "Scaled in double precision and rounded once; resampling as docs/decisions/0006 says.",
            source: "The published client's op of this name.",
        }
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let Arg::Scenes(scenes) = args[0] else { return Err(args[0].not("scenes", "scenes")) };
        let bands = band_names(&args[1], "bands")?;
        known_bands(&bands, &scenes.product.id, &scenes.product.bands)?;
        let pad = padding(&args[2])?;
        let resampler = resampler(&args[3])?;
        have_bands(&scenes.scenes, &bands)?;
        let mut images = Vec::with_capacity(scenes.scenes.len());
        for scene in &scenes.scenes {
            let mut properties = (*scene.properties).clone();
            properties.insert("product_id".into(), scene.product.as_str().into());
            properties.insert("bands".into(), bands.as_slice().into());
            properties.insert("pad".into(), pad.into());
            images.push(Arc::new(properties));
        }
        let (scenes, layout, props) = (scenes.scenes.clone(), Layout::Stack, Props::many(images));
        Ok(Bound::Read { scenes, layout, bands, resampler, pad, props })
    }

    fn infer(&self, _: &[Literal], _: &[Facts]) -> Result<Facts, TypeError> {
        Err(TypeError::Unsupported { what: "`stack_scenes` in a plan".into() })
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        Kernel::Bind
    }
}

/// `mosaic(product_id, bands; start_datetime, end_datetime, pad, resampler)`.
#[derive(Debug)]
pub struct Mosaic;

impl Mosaic {
    /// What a call with these arguments asks of the catalog.
    pub fn query(args: &[Arg<'_>]) -> Result<SceneQuery, TypeError> {
        Ok(SceneQuery { pad: padding(&args[4])?, ..query(&args[0], (&args[2], &args[3]))? })
    }
}

impl Op for Mosaic {
    fn name(&self) -> &'static str {
        "mosaic"
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: "Scenes of a product with start <= acquired < end on one image, the latest valid pixel on top.",
            params: const {
                &[
                    required("product_id"),
                    required("bands"),
                    optional("start_datetime"),
                    optional("end_datetime"),
                    optional("pad"),
                    optional("resampler"),
                ]
            },
            shapes: "Names of a product, bands and dates; the result is a mosaic, float32.",
            units: "Physical units of each band: stored values by the scale and offset of the product.",
            validity: "Valid where any scene is, band by band; scenes of one instant lie in the order of their ids.",
            accuracy: "Scaled in double precision and rounded once; resampling as docs/decisions/0006 says.",
            source: "The published client's op of this name.",
        }
    }

    fn bind(&self, cx: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let SceneSet { product, scenes } = selection(cx, &Mosaic::query(args)?)?;
        let bands = band_names(&args[1], "bands")?;
        known_bands(&bands, &product.id, &product.bands)?;
        painted(scenes, Some(&product.id), bands, (&args[4], &args[5]))
    }

    fn infer(&self, _: &[Literal], _: &[Facts]) -> Result<Facts, TypeError> {
        Err(TypeError::Unsupported { what: "`mosaic` in a plan".into() })
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        Kernel::Bind
    }
}

/// `from_image_ids(ids, bands; pad, resampler)`.
#[derive(Debug)]
pub struct FromImageIds;

impl FromImageIds {
    /// The ids that a call with these arguments names: a JSON list of texts.
    pub fn ids(args: &[Arg<'_>]) -> Result<Vec<String>, TypeError> {
        let text = args[0].text("ids")?;
        serde_json::from_str(text).map_err(|_| TypeError::Value {
            name: "ids",
            expected: "a JSON list of image ids, such as `[\"a\", \"b\"]`".into(),
            value: text.chars().take(80).collect(),
        })
    }
}

impl Op for FromImageIds {
    fn name(&self) -> &'static str {
        "from_image_ids"
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: "The named images on one image, those later in the list on top.",
            params: const { &[required("ids"), required("bands"), optional("pad"), optional("resampler")] },
            shapes: "A JSON list of image ids and names of bands; the result is a mosaic, float32.",
            units: "Physical units of each band: stored values by the scale and offset of the product.",
            validity: "Valid where any image is, band by band.",
            accuracy: "Scaled in double precision and rounded once; resampling as docs/decisions/0006 says.",
            source: "The published client's op of this name.",
        }
    }

    fn bind(&self, cx: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let unknown = |id: String| TypeError::Value {
            name: "ids",
            expected: "images of the catalog".into(),
            value: id,
        };
        let scenes = FromImageIds::ids(args)?
            .into_iter()
            .map(|id| cx.images.get(&id).cloned().ok_or_else(|| unknown(id)))
            .collect::<Result<Vec<Scene>, _>>()?;
        let products: BTreeSet<String> = scenes.iter().map(|scene| scene.product.clone()).collect();
        let product = products.first().filter(|_| products.len() == 1);
        painted(scenes, product.map(String::as_str), band_names(&args[1], "bands")?, (&args[2], &args[3]))
    }

    fn infer(&self, _: &[Literal], _: &[Facts]) -> Result<Facts, TypeError> {
        Err(TypeError::Unsupported { what: "`from_image_ids` in a plan".into() })
    }

    fn kernel(&self, _: &[Literal], _: &[Facts]) -> Kernel {
        Kernel::Bind
    }
}

/// Scenes on one image, the last on top.
fn painted(
    scenes: Vec<Scene>,
    product: Option<&str>,
    bands: Vec<String>,
    (pad, resampler_arg): (&Arg<'_>, &Arg<'_>),
) -> Result<Bound, TypeError> {
    have_bands(&scenes, &bands)?;
    let mut properties = Properties::new();
    if let Some(product) = product {
        properties.insert("product_id".into(), product.into());
    }
    properties.insert("bands".into(), bands.as_slice().into());
    let pad = padding(pad)?;
    properties.insert("pad".into(), pad.into());
    let (resampler, layout, props) = (resampler(resampler_arg)?, Layout::Mosaic, Props::one(properties));
    Ok(Bound::Read { scenes, layout, bands, resampler, pad, props })
}

/// The resampler an argument names.
fn resampler(arg: &Arg<'_>) -> Result<Resampler, TypeError> {
    let name = if arg.is_null() { "near" } else { arg.text("resampler")? };
    Resampler::from_name(name).ok_or_else(|| TypeError::Value {
        name: "resampler",
        expected: format!("one of {}", crate::error::listing(Resampler::ALL.iter().map(|(name, _)| name))),
        value: name.into(),
    })
}

/// Every scene must have every band.
fn have_bands(scenes: &[Scene], bands: &[String]) -> Result<(), TypeError> {
    for scene in scenes {
        if let Some(band) = bands.iter().find(|band| !scene.bands.contains_key(*band)) {
            let (scene, available) = (scene.id.clone(), scene.bands.keys().cloned().collect());
            return Err(TypeError::SceneWithoutBand { scene, band: band.clone(), available });
        }
    }
    Ok(())
}

/// What `predicate_filter` says.
fn predicate(arg: &Arg<'_>) -> Result<Option<Predicate>, TypeError> {
    match arg.literal("predicate_filter")? {
        Literal::Null => Ok(None),
        literal => Predicate::from_literal(literal)
            .map(Some)
            .map_err(|error| TypeError::Predicate { name: "predicate_filter", error }),
    }
}

/// Orders scenes by a property; those without it come last, equal ones by time and id.
fn sort(scenes: &mut [Scene], by: &str, ascending: bool) {
    scenes.sort_by(|a, b| {
        let order = match by {
            "acquired" => a.acquired.cmp(&b.acquired),
            _ => compare(a.properties.get(by), b.properties.get(by), ascending),
        };
        let order = if ascending { order } else { order.reverse() };
        order.then_with(|| (a.acquired, &a.id).cmp(&(b.acquired, &b.id)))
    });
}

/// Numbers before texts before everything else; what is missing is last in either direction.
fn compare(a: Option<&serde_json::Value>, b: Option<&serde_json::Value>, ascending: bool) -> Ordering {
    let rank = |value: Option<&serde_json::Value>| match value {
        Some(serde_json::Value::Number(_)) => 0,
        Some(serde_json::Value::String(_)) => 1,
        Some(serde_json::Value::Null) | None => {
            if ascending {
                3
            } else {
                -1
            }
        }
        Some(_) => 2,
    };
    match (a, b) {
        (Some(serde_json::Value::Number(a)), Some(serde_json::Value::Number(b))) => {
            a.as_f64().unwrap_or(f64::NAN).total_cmp(&b.as_f64().unwrap_or(f64::NAN))
        }
        (Some(serde_json::Value::String(a)), Some(serde_json::Value::String(b))) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)),
    }
}

/// Whether a scene has a file with pixels on the grid. The catalog looked for rectangles in degrees;
/// where a file's own pixel grid is known, this is exact.
fn may_touch<'s>(scene: &'s Scene, area: &Grid, transform: &dyn Transform) -> bool {
    let mut seen: Vec<&'s AssetGrid> = Vec::new();
    let mut overlaps = |raster: Option<&'s AssetGrid>| {
        let Some(raster) = raster else { return true };
        // Bands share grids.
        if seen.contains(&raster) {
            return false;
        }
        seen.push(raster);
        raster.overlaps(area, transform)
    };
    scene.bands.is_empty() || scene.bands.values().any(|band| overlaps(band.asset.raster.as_ref()))
}

/// Pixels around the grid that a source has as well. They are read only where an op looks at
/// neighbours: the margin of value-by-value ops would be computed and cropped again.
fn padding(arg: &Arg<'_>) -> Result<u32, TypeError> {
    match arg.literal("pad")? {
        Literal::Null => Ok(0),
        Literal::Int(pad) if (0..=i64::from(PAD_MAX)).contains(pad) => Ok(*pad as u32),
        other => Err(TypeError::Value {
            name: "pad",
            expected: format!("a whole number of pixels from 0 to {PAD_MAX}"),
            value: other.to_string(),
        }),
    }
}

fn known_bands(bands: &[String], product: &str, available: &[String]) -> Result<(), TypeError> {
    match bands.iter().find(|band| !available.contains(band)) {
        None => Ok(()),
        Some(band) => Err(TypeError::UnknownBand {
            band: band.clone(),
            place: format!("product `{product}`"),
            available: available.to_vec(),
        }),
    }
}

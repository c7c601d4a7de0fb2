//! Where pixels come from: `select_scenes` asks the catalog, `stack_scenes` reads.

use std::cmp::Ordering;
use std::sync::Arc;

use super::bands::band_names;
use super::{Arg, BindCx, Bound, Facts, Kernel, Op, OpDoc, Props, SceneSet, TypeError, optional, required};
use crate::grid::Grid;
use crate::literal::Literal;
use crate::predicate::Predicate;
use crate::scene::{Resampler, Scene, SceneQuery, Timestamp};

/// The ops of this family.
pub const OPS: &[&dyn Op] = &[&SelectScenes, &StackScenes];

/// `select_scenes(product_id, bands; start_datetime, end_datetime, predicate_filter, sort_by, ascending, pad)`.
#[derive(Debug)]
pub struct SelectScenes;

impl SelectScenes {
    /// What a call with these arguments asks of the catalog.
    pub fn query(args: &[Arg<'_>]) -> Result<SceneQuery, TypeError> {
        let instant = |arg: &Arg<'_>, name: &'static str| -> Result<Option<Timestamp>, TypeError> {
            if arg.is_null() {
                return Ok(None);
            }
            let text = arg.text(name)?;
            let expected = || "an ISO 8601 date such as `2024-06-01` or `2024-06-01T00:00:00`".into();
            let bad = || TypeError::Value { name, expected: expected(), value: text.into() };
            Timestamp::parse(text).map(Some).ok_or_else(bad)
        };
        Ok(SceneQuery {
            product: args[0].text("product_id")?.to_owned(),
            start: instant(&args[2], "start_datetime")?,
            end: instant(&args[3], "end_datetime")?,
            predicate: predicate(&args[4])?,
        })
    }
}

impl Op for SelectScenes {
    fn name(&self) -> &'static str {
        "select_scenes"
    }

    fn doc(&self) -> OpDoc {
        OpDoc {
            summary: "Scenes of a product with start <= acquired < end that touch the AOI, by time, or by `sort_by`.",
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
            validity: "Has no pixels.",
            source: "The published client's op of this name.",
        }
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
        let unknown = || TypeError::Value {
            name: "product_id",
            expected: "a product of the catalog".into(),
            value: query.product.clone(),
        };
        let answer = cx.answers.get(&query).ok_or_else(unknown)?;
        known_bands(&band_names(&args[1], "bands")?, &answer.product.id, &answer.product.bands)?;
        let mut scenes: Vec<Scene> =
            answer.scenes.iter().filter(|scene| may_touch(scene, cx.grid)).cloned().collect();
        sort(&mut scenes, sort_by, ascending);
        Ok(Bound::Scenes(SceneSet { product: answer.product.clone(), scenes }))
    }

    fn infer(&self, _: &[Literal], _: &[Facts]) -> Result<Facts, TypeError> {
        Err(TypeError::Unsupported { what: "`select_scenes` in a plan".into() })
    }

    fn kernel(&self, _: &[Facts]) -> Kernel {
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
            validity: "Valid inside the scene where the file has a value: not nodata, not NaN.",
            source: "The published client's op of this name.",
        }
    }

    fn bind(&self, _: &BindCx<'_>, args: &[Arg<'_>]) -> Result<Bound, TypeError> {
        let Arg::Scenes(scenes) = args[0] else { return Err(args[0].not("scenes", "scenes")) };
        let bands = band_names(&args[1], "bands")?;
        known_bands(&bands, &scenes.product.id, &scenes.product.bands)?;
        let pad = padding(&args[2])?;
        let resampler = if args[3].is_null() { "near" } else { args[3].text("resampler")? };
        let resampler = Resampler::from_name(resampler).ok_or_else(|| TypeError::Value {
            name: "resampler",
            expected: format!(
                "one of {}",
                crate::error::listing(Resampler::ALL.iter().map(|(name, _)| name))
            ),
            value: resampler.into(),
        })?;
        let mut images = Vec::with_capacity(scenes.scenes.len());
        for scene in &scenes.scenes {
            if let Some(band) = bands.iter().find(|band| !scene.bands.contains_key(*band)) {
                let (scene, available) = (scene.id.clone(), scene.bands.keys().cloned().collect());
                return Err(TypeError::SceneWithoutBand { scene, band: band.clone(), available });
            }
            let mut properties = (*scene.properties).clone();
            properties.insert("product_id".into(), scene.product.as_str().into());
            properties.insert("bands".into(), bands.as_slice().into());
            properties.insert("pad".into(), pad.into());
            images.push(Arc::new(properties));
        }
        Ok(Bound::Read { scenes: scenes.clone(), bands, resampler, props: Props::many(images) })
    }

    fn infer(&self, _: &[Literal], _: &[Facts]) -> Result<Facts, TypeError> {
        Err(TypeError::Unsupported { what: "`stack_scenes` in a plan".into() })
    }

    fn kernel(&self, _: &[Facts]) -> Kernel {
        Kernel::Bind
    }
}

/// What `predicate_filter` says.
fn predicate(arg: &Arg<'_>) -> Result<Option<Predicate>, TypeError> {
    match arg.literal("predicate_filter")? {
        Literal::Null => Ok(None),
        literal => Predicate::from_literal(literal).map(Some).map_err(|error| TypeError::Predicate { error }),
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
/// where a file's own pixel grid is known and in the grid's CRS, this is exact.
fn may_touch(scene: &Scene, grid: &Grid) -> bool {
    let mut rasters = scene.bands.values().map(|band| band.asset.raster.as_ref());
    scene.bands.is_empty()
        || rasters
            .any(|raster| raster.is_none_or(|raster| raster.crs != *grid.crs() || raster.overlaps(grid)))
}

/// Padding changes no pixel of value-by-value ops: the margin would be computed and cropped again.
/// It stays in the metadata; ops with a halo will ask for their margin themselves.
fn padding(arg: &Arg<'_>) -> Result<i64, TypeError> {
    match arg.literal("pad")? {
        Literal::Null => Ok(0),
        Literal::Int(pad) if (0..=PAD_MAX).contains(pad) => Ok(*pad),
        other => Err(TypeError::Value {
            name: "pad",
            expected: format!("a whole number of pixels from 0 to {PAD_MAX}"),
            value: other.to_string(),
        }),
    }
}

/// Pixels of padding that a source may ask for.
const PAD_MAX: i64 = 1024;

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

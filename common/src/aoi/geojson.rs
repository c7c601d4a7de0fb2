//! Geometries in longitude and latitude, and how they are read from GeoJSON.

use serde_json::Value;

use crate::error::{Classify, ErrorClass};

/// A polygon: closed rings of (x, y), the first the outside, the others holes.
pub type Polygon = Vec<Vec<(f64, f64)>>;

/// A line of (x, y); of one vertex, it is a point.
pub type Line = Vec<(f64, f64)>;

/// Polygons, lines and points, of which each adds its pixels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Geometry {
    /// The polygons; holes by the even-odd rule.
    pub polygons: Vec<Polygon>,
    /// The lines and points.
    pub lines: Vec<Line>,
}

/// Why a geometry is none.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GeometryError {
    /// Not GeoJSON, or a kind of it that has no place.
    #[error("{at} is no GeoJSON geometry: {reason}")]
    Syntax {
        /// Where in the document: `features[2].geometry`.
        at: String,
        /// What is wrong.
        reason: String,
    },
    /// A document without a single geometry.
    #[error("the GeoJSON holds no geometry; give a Polygon, or a Feature that has one")]
    Empty,
    /// A ring that is not a ring.
    #[error(
        "a ring of the geometry has {points} points; it needs at least four, the last equal to the first"
    )]
    Ring {
        /// Points of the ring.
        points: usize,
    },
    /// A line without vertices.
    #[error("a line of the geometry has no vertices")]
    Line,
    /// A vertex that is not on earth.
    #[error(
        "a vertex of the geometry is at ({lon}, {lat}); it takes a longitude within -540 and 540 and a latitude \
         within -90 and 90, in this order: GeoJSON is in WGS 84"
    )]
    Vertex {
        /// Its longitude.
        lon: f64,
        /// Its latitude.
        lat: f64,
    },
}

impl Classify for GeometryError {
    fn class(&self) -> ErrorClass {
        ErrorClass::InvalidRequest
    }
}

/// Collections inside one another; RFC 7946 says there should be none.
const DEPTH_MAX: usize = 16;

impl Geometry {
    /// Polygons alone.
    pub fn of(polygons: Vec<Polygon>) -> Self {
        Geometry { polygons, lines: Vec::new() }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.polygons.is_empty() && self.lines.is_empty()
    }

    /// Number of vertices.
    pub fn vertices(&self) -> usize {
        self.polygons.iter().flatten().chain(&self.lines).map(Vec::len).sum()
    }

    /// Checks a geometry in longitude and latitude: closed rings, places on earth.
    ///
    /// # Errors
    /// [`GeometryError`] for the first fault.
    pub fn check(&self) -> Result<(), GeometryError> {
        for ring in self.polygons.iter().flatten() {
            if ring.len() < 4 || ring.first() != ring.last() {
                return Err(GeometryError::Ring { points: ring.len() });
            }
        }
        if self.lines.iter().any(Vec::is_empty) || self.polygons.iter().any(Vec::is_empty) {
            return Err(GeometryError::Line);
        }
        let is_off = |(lon, lat): &&(f64, f64)| !(lon.abs() <= 540.0 && lat.abs() <= 90.0);
        match self.polygons.iter().flatten().chain(&self.lines).flatten().find(is_off) {
            Some((lon, lat)) => Err(GeometryError::Vertex { lon: *lon, lat: *lat }),
            None => Ok(()),
        }
    }

    /// Reads any GeoJSON object (RFC 7946): geometries of all types, `Feature`, `FeatureCollection`.
    /// Heights are left out; features without a geometry add nothing.
    ///
    /// # Errors
    /// [`GeometryError`].
    pub fn from_geojson(document: &Value) -> Result<Self, GeometryError> {
        let mut geometry = Geometry::default();
        geometry.add(document, "the document", 0)?;
        if geometry.is_empty() {
            return Err(GeometryError::Empty);
        }
        geometry.check()?;
        Ok(geometry)
    }

    fn add(&mut self, value: &Value, at: &str, depth: usize) -> Result<(), GeometryError> {
        let refused = |reason: String| GeometryError::Syntax { at: at.to_owned(), reason };
        let inside = |member: &str| match depth {
            0 => format!("`{member}`"),
            _ => format!("`{}.{member}`", at.trim_matches('`')),
        };
        if depth > DEPTH_MAX {
            return Err(refused(format!("more than {DEPTH_MAX} collections inside one another")));
        }
        let Some(kind) = value.get("type").and_then(Value::as_str) else {
            return Err(refused("it has no `type`".into()));
        };
        let coordinates =
            || value.get("coordinates").ok_or_else(|| refused(format!("the {kind} has no `coordinates`")));
        match kind {
            "Feature" => match value.get("geometry") {
                None | Some(Value::Null) => {}
                Some(geometry) => self.add(geometry, &inside("geometry"), depth + 1)?,
            },
            "FeatureCollection" | "GeometryCollection" => {
                let member = if kind == "FeatureCollection" { "features" } else { "geometries" };
                let Some(items) = value.get(member).and_then(Value::as_array) else {
                    return Err(refused(format!("the {kind} has no list `{member}`")));
                };
                for (i, item) in items.iter().enumerate() {
                    self.add(item, &inside(&format!("{member}[{i}]")), depth + 1)?;
                }
            }
            "Polygon" => self.polygons.push(polygon(coordinates()?).map_err(refused)?),
            "MultiPolygon" => {
                for value in list(coordinates()?).map_err(refused)? {
                    self.polygons.push(polygon(value).map_err(refused)?);
                }
            }
            "LineString" => self.lines.push(line(coordinates()?).map_err(refused)?),
            "MultiLineString" => {
                for value in list(coordinates()?).map_err(refused)? {
                    self.lines.push(line(value).map_err(refused)?);
                }
            }
            "Point" => self.lines.push(vec![position(coordinates()?).map_err(refused)?]),
            "MultiPoint" => {
                for value in list(coordinates()?).map_err(refused)? {
                    self.lines.push(vec![position(value).map_err(refused)?]);
                }
            }
            other => return Err(refused(format!("`{other}` is no type of GeoJSON"))),
        }
        Ok(())
    }
}

fn list(value: &Value) -> Result<&Vec<Value>, String> {
    value.as_array().ok_or_else(|| "its coordinates are not nested as its type says".to_owned())
}

fn polygon(value: &Value) -> Result<Polygon, String> {
    let rings: Polygon = list(value)?.iter().map(line).collect::<Result<_, _>>()?;
    if rings.is_empty() { Err("a polygon has no rings".to_owned()) } else { Ok(rings) }
}

fn line(value: &Value) -> Result<Line, String> {
    list(value)?.iter().map(position).collect()
}

fn position(value: &Value) -> Result<(f64, f64), String> {
    match list(value)?.as_slice() {
        [lon, lat, ..] => match (lon.as_f64(), lat.as_f64()) {
            (Some(lon), Some(lat)) => Ok((lon, lat)),
            _ => Err("a position is not of numbers".to_owned()),
        },
        _ => Err("a position has fewer than two numbers".to_owned()),
    }
}

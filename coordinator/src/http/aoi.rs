//! The body of `POST /layers/{id}/aoi` (protocol.md section 8): every member as a typed value, or an error
//! that names it.

use std::collections::BTreeMap;

use graticule_common::aoi::{Aoi, Geometry, Sampling};
use graticule_common::graft::Parameters;
use graticule_common::literal::Literal;
use graticule_common::proto::v1 as pb;
use graticule_common::wire;

use super::error::HttpError;

/// What is asked of a layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    /// Where, and how fine.
    pub(super) aoi: Aoi,
    /// Values of the graft's parameters.
    pub(super) parameters: Parameters,
    /// Which of several results is wanted; `None`: all of them.
    pub(super) result: Option<String>,
    /// How a picture looks: the members of a tile's address. Empty: as it is.
    pub(super) style: Vec<(String, Literal)>,
}

impl Asked {
    /// Reads a body's members. Those that are not known say who asks, and are left alone.
    ///
    /// # Errors
    /// The first member that is not what it must be.
    pub(super) fn read(members: Vec<(String, Literal)>) -> Result<Self, HttpError> {
        let members: BTreeMap<String, Literal> = members.into_iter().collect();
        let member = |name: &'static str| Member {
            name,
            value: members.get(name).filter(|value| !matches!(value, Literal::Null)),
        };
        let sampling = match (member("resolution").value, member("shape").value) {
            (Some(_), None) => {
                let (x, y) = member("resolution").resolution()?;
                Sampling::Resolution(x, y)
            }
            (None, Some(_)) => {
                let (rows, cols) = member("shape").shape()?;
                Sampling::Shape { rows, cols }
            }
            (None, None) => {
                return Err(HttpError::invalid("say how fine: `resolution` or `shape`").at("/resolution"));
            }
            (Some(_), Some(_)) => {
                let message = "`resolution` and `shape` say the same thing twice; one of them must be null";
                return Err(HttpError::invalid(message).at("/shape"));
            }
        };
        let geometry = member("geometry");
        let geometry = match geometry.value {
            None => Geometry::default(),
            Some(value @ Literal::Object(_)) => Geometry::from_geojson(&value.to_json())
                .map_err(|error| HttpError::of(&error).at("/geometry"))?,
            Some(_) => return Err(geometry.wrong("a GeoJSON geometry or null")),
        };
        // Those of a point or of an upright line enclose nothing; the geometry says where.
        let encloses = |[west, south, east, north]: &[f64; 4]| west != east && south != north;
        let bounds = member("bounds").bounds()?.filter(|bounds| geometry.is_empty() || encloses(bounds));
        if bounds.is_none() && geometry.is_empty() {
            return Err(HttpError::invalid("say where: `bounds` or `geometry`").at("/bounds"));
        }
        let crs = member("crs");
        let aoi = Aoi {
            geometry,
            bounds,
            bounds_crs: member("bounds_crs").crs()?,
            crs: crs.crs()?.ok_or_else(|| crs.wrong("a CRS such as `EPSG:32613`"))?,
            sampling,
            align_pixels: member("align_pixels").flag()?,
            all_touched: member("all_touched").flag()?,
        };
        let object = |name: &'static str| match member(name).value {
            None => Ok(Vec::new()),
            Some(Literal::Object(members)) => Ok(members.clone()),
            Some(_) => Err(member(name).wrong("an object")),
        };
        let result = match member("result").value {
            None => None,
            Some(Literal::Str(name)) => Some(name.clone()),
            Some(_) => return Err(member("result").wrong("the name of a result")),
        };
        let parameters = object("parameters")?.into_iter().collect();
        Ok(Asked { aoi, parameters, result, style: object("style")? })
    }

    /// The request for a graft.
    pub(super) fn request(&self, graft: &[u8]) -> pb::ComputeRequest {
        request(graft, &self.aoi, &self.parameters, pb::Options::default())
    }
}

/// A request for a graft on an area.
pub(crate) fn request(
    graft: &[u8],
    aoi: &Aoi,
    parameters: &Parameters,
    options: pb::Options,
) -> pb::ComputeRequest {
    let members = parameters.iter().map(|(name, value)| (name.clone(), wire::literal_to(value))).collect();
    pb::ComputeRequest {
        graft: graft.to_vec(),
        aoi: Some(wire::aoi_to(aoi)),
        options: Some(options),
        parameters: Some(pb::ValueMap { members }),
    }
}

/// A member of a body.
#[derive(Clone, Copy)]
struct Member<'a> {
    name: &'static str,
    /// Absent where it is null, too.
    value: Option<&'a Literal>,
}

impl Member<'_> {
    fn wrong(&self, expected: &str) -> HttpError {
        let is = self.value.map_or("missing", Literal::kind_name);
        let message = format!("`{}` must be {expected}, it is {is}", self.name);
        HttpError::invalid(message).at(format!("/{}", self.name))
    }

    /// A number; truth values are none.
    fn number(value: &Literal) -> Option<f64> {
        match value {
            Literal::Int(_) | Literal::Float(_) => value.as_f64().filter(|number| number.is_finite()),
            _ => None,
        }
    }

    fn numbers(&self) -> Option<Vec<f64>> {
        match self.value? {
            Literal::List(items) => items.iter().map(Member::number).collect(),
            value => Member::number(value).map(|number| vec![number]),
        }
    }

    fn resolution(&self) -> Result<(f64, f64), HttpError> {
        let wrong = || self.wrong("a number above 0, in units of `crs`, or two of them: [x, y]");
        match self.numbers().ok_or_else(wrong)?[..] {
            [size] if size > 0.0 => Ok((size, size)),
            [x, y] if x > 0.0 && y > 0.0 => Ok((x, y)),
            _ => Err(wrong()),
        }
    }

    fn shape(&self) -> Result<(u64, u64), HttpError> {
        let wrong = || self.wrong("two whole numbers above 0: [rows, columns]");
        let Some(Literal::List(items)) = self.value else { return Err(wrong()) };
        let sides: Option<Vec<u64>> = items
            .iter()
            .map(|item| item.as_int().and_then(|side| u64::try_from(side).ok()).filter(|side| *side > 0))
            .collect();
        match sides.as_deref() {
            Some([rows, cols]) => Ok((*rows, *cols)),
            _ => Err(wrong()),
        }
    }

    fn bounds(&self) -> Result<Option<[f64; 4]>, HttpError> {
        if self.value.is_none() {
            return Ok(None);
        }
        let wrong = || self.wrong("four numbers: [minx, miny, maxx, maxy]");
        let edges = self.numbers().and_then(|edges| <[f64; 4]>::try_from(edges).ok());
        edges.map(Some).ok_or_else(wrong)
    }

    fn crs(&self) -> Result<Option<String>, HttpError> {
        match self.value {
            None => Ok(None),
            Some(Literal::Str(text)) if !text.trim().is_empty() => Ok(Some(text.clone())),
            Some(_) => Err(self.wrong("a CRS: an EPSG code, a PROJ string or WKT")),
        }
    }

    fn flag(&self) -> Result<bool, HttpError> {
        match self.value {
            None => Ok(false),
            Some(Literal::Bool(value)) => Ok(*value),
            Some(_) => Err(self.wrong("true or false")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::body::object;
    use super::*;
    use graticule_common::error::ErrorClass;
    use serde_json::{Value, json};

    fn read(body: Value) -> Result<Asked, HttpError> {
        Asked::read(object(body.to_string().as_bytes())?)
    }

    fn whole() -> Value {
        json!({
            "geometry": null, "resolution": 30, "shape": null, "crs": "EPSG:32613",
            "bounds": [-105.0, 40.0, -104.9, 40.1], "bounds_crs": "EPSG:4326", "align_pixels": true,
            "all_touched": false, "parameters": {"start": "2024-01-01", "unused": 1},
            "python_version": "3.11", "dynamic_compute_version": "1.6.0",
        })
    }

    #[test]
    fn what_the_client_sends() {
        let asked = read(whole()).unwrap();
        assert_eq!(asked.aoi.sampling, Sampling::Resolution(30.0, 30.0));
        assert_eq!(asked.aoi.bounds, Some([-105.0, 40.0, -104.9, 40.1]));
        assert_eq!(asked.aoi.bounds_crs.as_deref(), Some("EPSG:4326"));
        assert!(asked.aoi.align_pixels && !asked.aoi.all_touched && asked.aoi.geometry.is_empty());
        assert_eq!(asked.parameters["start"], Literal::Str("2024-01-01".into()));
        let value_at = json!({
            "geometry": null, "resolution": null, "shape": [1, 1], "crs": "EPSG:4326",
            "bounds": [10.0, 40.0, 10.0000001, 40.0000001], "bounds_crs": "EPSG:4326", "align_pixels": true,
            "all_touched": true, "parameters": {},
        });
        assert_eq!(read(value_at).unwrap().aoi.sampling, Sampling::Shape { rows: 1, cols: 1 });
    }

    #[test]
    fn bounds_of_a_point_are_none() {
        let mut body = whole();
        body["geometry"] = json!({"type": "Point", "coordinates": [-105.0, 40.0]});
        body["bounds"] = json!([-105.0, 40.0, -105.0, 40.0]);
        body["all_touched"] = json!(true);
        assert_eq!(read(body.clone()).unwrap().aoi.bounds, None);
        body["geometry"] = Value::Null;
        assert!(read(body).unwrap().aoi.bounds.is_some(), "alone they are a mistake, and said to be one");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |name: &str, value: Value| {
            let mut body = whole();
            body[name] = value;
            body
        };
        for (name, values) in [
            ("geometry", json!(["x", 1, {}, {"type": "Circle"}, {"type": "Polygon", "coordinates": []}])),
            ("resolution", json!(["30", 0, -1, [1, 2, 3], true, [], [30, "x"], {}])),
            (
                "bounds",
                json!([1, [1, 2, 3], [1, 2, 3, "4"], [1, 2, 3, null], "1,2,3,4", {}, [1, 2, 3, true]]),
            ),
            ("crs", json!([null, 32613, "", " ", []])),
            ("bounds_crs", json!([4326, "", {}])),
            ("align_pixels", json!(["true", 1, []])),
            ("all_touched", json!(["false", 0])),
            ("parameters", json!([[], "x", 1])),
            ("style", json!([[], "x"])),
            ("result", json!([1, []])),
        ] {
            for value in values.as_array().unwrap() {
                let error = read(with(name, value.clone())).unwrap_err();
                assert_eq!(error.class, ErrorClass::InvalidRequest, "{name}: {value}");
                assert_eq!(error.path, Some(format!("/{name}")), "{name}: {value}: {}", error.message);
            }
        }
        for shape in
            [json!([0, 1]), json!([1]), json!([1.0, 1.0]), json!([1, 2, 3]), json!(1), json!([-1, 1])]
        {
            let mut body = with("shape", shape.clone());
            body["resolution"] = Value::Null;
            assert_eq!(read(body).unwrap_err().path.as_deref(), Some("/shape"), "{shape}");
        }
        let path = |body| read(body).unwrap_err().path;
        assert_eq!(path(with("shape", json!([1, 1]))).as_deref(), Some("/shape"), "both");
        assert_eq!(path(with("resolution", Value::Null)).as_deref(), Some("/resolution"), "neither");
        assert_eq!(path(with("bounds", Value::Null)).as_deref(), Some("/bounds"), "nowhere");
        assert_eq!(path(json!({})).as_deref(), Some("/resolution"));
        for text in ["", "[]", "1", "{\"a\": NaN}", "{\"a\": 1, \"a\": 2}", "{} {}", "{\"a\": 1e999}x"] {
            assert_eq!(object(text.as_bytes()).unwrap_err().class, ErrorClass::InvalidRequest, "{text}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(object(deep.as_bytes()).unwrap_err().class, ErrorClass::LimitExceeded);
    }
}

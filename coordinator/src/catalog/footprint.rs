//! Footprints: GeoJSON geometry as WKT, and bounding boxes on a round world.

use std::fmt::Write;

use graticule_common::scene::LonLatBox;
use serde_json::Value;

use super::CatalogError;
use super::node::Node;

/// Latitudes beyond this are not degrees. The margin is for boxes of pixels that touch a pole.
const LAT_MAX: f64 = 91.0;
/// Longitudes beyond this are not degrees: once around the world from either end.
const LON_MAX: f64 = 540.0;

/// West, south, east and north as STAC has them: `west > east` where the box crosses 180 degrees.
pub(super) type Edges = [f64; 4];

/// Reads the member `bbox` of an item.
pub(super) fn bbox(node: &Node<'_>) -> Result<Edges, CatalogError> {
    let numbers = node.items()?.iter().map(Node::number).collect::<Result<Vec<_>, _>>()?;
    let edges = match numbers[..] {
        [west, south, east, north] | [west, south, _, east, north, _] => [west, south, east, north],
        _ => return Err(node.wrong("must be 4 or 6 numbers")),
    };
    check(edges).map_err(|problem| node.wrong(problem))
}

fn check(edges: Edges) -> Result<Edges, &'static str> {
    let [west, south, east, north] = edges;
    if south > north {
        return Err("must be [west, south, east, north] with south <= north");
    }
    if south < -LAT_MAX || north > LAT_MAX || west.abs() > LON_MAX || east.abs() > LON_MAX {
        return Err("must be in degrees of longitude and latitude");
    }
    Ok(edges)
}

/// The parts of a box between -180 and 180 degrees: two where it crosses that meridian.
pub(super) fn parts([west, south, east, north]: Edges) -> Vec<LonLatBox> {
    let east = if east < west { east + 360.0 } else { east };
    if east - west >= 360.0 {
        return vec![LonLatBox { west: -180.0, south, east: 180.0, north }];
    }
    [-720.0, -360.0, 0.0, 360.0, 720.0]
        .into_iter()
        .map(|turn| LonLatBox {
            west: (west + turn).max(-180.0),
            south,
            east: (east + turn).min(180.0),
            north,
        })
        .filter(|part| part.west <= part.east)
        .collect()
}

/// A GeoJSON geometry as WKT, and the box around its positions.
pub(super) fn wkt(geometry: &Node<'_>) -> Result<(String, Edges), CatalogError> {
    let mut edges = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
    let mut text = String::new();
    write(geometry, &mut text, &mut edges)?;
    check(edges).map_err(|problem| geometry.wrong(problem))?;
    Ok((text, edges))
}

fn write(geometry: &Node<'_>, text: &mut String, edges: &mut Edges) -> Result<(), CatalogError> {
    let kind = geometry.need("type")?;
    let (name, depth) = match kind.text()? {
        "Point" => ("POINT", 1),
        "MultiPoint" => ("MULTIPOINT", 2),
        "LineString" => ("LINESTRING", 1),
        "MultiLineString" => ("MULTILINESTRING", 2),
        "Polygon" => ("POLYGON", 2),
        "MultiPolygon" => ("MULTIPOLYGON", 3),
        "GeometryCollection" => {
            text.push_str("GEOMETRYCOLLECTION (");
            for (i, part) in geometry.need("geometries")?.items()?.iter().enumerate() {
                text.push_str(if i > 0 { ", " } else { "" });
                write(part, text, edges)?;
            }
            text.push(')');
            return Ok(());
        }
        _ => return Err(kind.wrong("must be a type of GeoJSON geometry")),
    };
    text.push_str(name);
    text.push(' ');
    let coordinates = geometry.need("coordinates")?;
    match name {
        "POINT" => {
            text.push('(');
            position(&coordinates, text, edges)?;
            text.push(')');
            Ok(())
        }
        // WKT wraps each of the points, GeoJSON does not.
        "MULTIPOINT" => list(&coordinates, text, |point, text| {
            text.push('(');
            position(point, text, edges)?;
            text.push(')');
            Ok(())
        }),
        _ => nested(&coordinates, depth, text, edges),
    }
}

fn nested(node: &Node<'_>, depth: u32, text: &mut String, edges: &mut Edges) -> Result<(), CatalogError> {
    if depth == 0 {
        return position(node, text, edges);
    }
    list(node, text, |part, text| nested(part, depth - 1, text, edges))
}

fn list(
    node: &Node<'_>,
    text: &mut String,
    mut each: impl FnMut(&Node<'_>, &mut String) -> Result<(), CatalogError>,
) -> Result<(), CatalogError> {
    let parts = node.items()?;
    if parts.is_empty() {
        return Err(node.wrong("must not be empty"));
    }
    text.push('(');
    for (i, part) in parts.iter().enumerate() {
        text.push_str(if i > 0 { ", " } else { "" });
        each(part, text)?;
    }
    text.push(')');
    Ok(())
}

fn position(node: &Node<'_>, text: &mut String, edges: &mut Edges) -> Result<(), CatalogError> {
    let numbers = node.value().as_array().map(Vec::as_slice).unwrap_or_default();
    let (Some(x), Some(y)) =
        (numbers.first().and_then(Value::as_f64), numbers.get(1).and_then(Value::as_f64))
    else {
        return Err(node.wrong("must be a position [x, y]"));
    };
    *edges = [edges[0].min(x), edges[1].min(y), edges[2].max(x), edges[3].max(y)];
    write!(text, "{x} {y}").expect("a String takes all text");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parts_of(edges: Edges) -> Vec<(f64, f64)> {
        parts(edges).iter().map(|part| (part.west, part.east)).collect()
    }

    #[test]
    fn boxes_go_on_at_the_other_side() {
        assert_eq!(parts_of([10.0, 0.0, 20.0, 1.0]), [(10.0, 20.0)]);
        assert_eq!(parts_of([170.0, 0.0, -170.0, 1.0]), [(-180.0, -170.0), (170.0, 180.0)]);
        assert_eq!(parts_of([170.0, 0.0, 190.0, 1.0]), [(-180.0, -170.0), (170.0, 180.0)]);
        assert_eq!(parts_of([-190.0, 0.0, -170.0, 1.0]), [(-180.0, -170.0), (170.0, 180.0)]);
        assert_eq!(parts_of([200.0, 0.0, 210.0, 1.0]), [(-160.0, -150.0)]);
        assert_eq!(parts_of([-180.0, -90.0, 180.0, 90.0]), [(-180.0, 180.0)]);
    }

    #[test]
    fn geometries_as_wkt() {
        for (geometry, expect) in [
            (json!({"type": "Point", "coordinates": [1, 2.5, 7]}), "POINT (1 2.5)"),
            (json!({"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}), "MULTIPOINT ((1 2), (3 4))"),
            (json!({"type": "LineString", "coordinates": [[1, 2], [3, 4]]}), "LINESTRING (1 2, 3 4)"),
            (
                json!({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}),
                "POLYGON ((0 0, 1 0, 1 1, 0 0))",
            ),
            (
                json!({"type": "MultiPolygon", "coordinates": [[[[0, 0], [1, 0], [1, 1], [0, 0]]]]}),
                "MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)))",
            ),
            (
                json!({"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [1, 2]}]}),
                "GEOMETRYCOLLECTION (POINT (1 2))",
            ),
        ] {
            let (text, _) = wkt(&Node::root("a.json", &geometry)).unwrap();
            assert_eq!(text, expect);
        }
        for bad in [
            json!({"type": "Circle", "coordinates": [1, 2]}),
            json!({"type": "Point", "coordinates": [1]}),
            json!({"type": "Point"}),
            json!({"type": "Polygon", "coordinates": []}),
            json!({"type": "Polygon", "coordinates": [[["a", 0]]]}),
            json!({"type": "Point", "coordinates": [500000, 4400000]}),
            json!(7),
        ] {
            let result = wkt(&Node::root("a.json", &bad));
            assert!(matches!(result, Err(CatalogError::Member { .. })), "{bad}: {result:?}");
        }
    }
}

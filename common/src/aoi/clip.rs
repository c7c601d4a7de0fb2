//! The parts of a geometry that lie in an area of longitudes and latitudes, by whole turns.

use super::project::extent;
use super::{Geometry, TURN};
use crate::scene::LonLatBox;

/// Parts that RFC 7946 had cut at the antimeridian, put side by side: those that touch it from the
/// east, and all that are nearer to them across it than around the earth, move a turn east.
pub(super) fn join_at_antimeridian(geometry: &mut Geometry) {
    const TOUCHES: f64 = 180.0 - 1e-9;
    let span = |points: &mut dyn Iterator<Item = (f64, f64)>| {
        let [west, _, east, _] = extent(points);
        (west, east)
    };
    let polygons = geometry.polygons.iter().map(|rings| span(&mut rings.iter().flatten().copied()));
    let lines = geometry.lines.iter().map(|line| span(&mut line.iter().copied()));
    let mut spans: Vec<(f64, f64)> = polygons.chain(lines).collect();
    let from_west = |(west, east): &(f64, f64)| (TOUCHES..=180.0).contains(east) && *west > -TOUCHES;
    let from_east = |(west, east): &(f64, f64)| (-180.0..=-TOUCHES).contains(west) && *east < TOUCHES;
    if !(spans.iter().any(from_west) && spans.iter().any(from_east)) {
        return;
    }
    // What lies west of the widest gap belongs to the other side.
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut reach, mut gap, mut cut) = (f64::NEG_INFINITY, 0.0, f64::NEG_INFINITY);
    for (west, east) in spans {
        if reach.is_finite() && west - reach > gap {
            (gap, cut) = (west - reach, west);
        }
        reach = reach.max(east);
    }
    let shift = |points: &mut Vec<(f64, f64)>| points.iter_mut().for_each(|(lon, _)| *lon += TURN);
    for rings in &mut geometry.polygons {
        if rings.iter().flatten().all(|(lon, _)| *lon < cut) {
            rings.iter_mut().for_each(shift);
        }
    }
    for line in &mut geometry.lines {
        if line.iter().all(|(lon, _)| *lon < cut) {
            shift(line);
        }
    }
}

/// The whole turns by which points come to lie in an area.
pub(super) fn shifts(points: impl Iterator<Item = (f64, f64)>, area: &LonLatBox) -> Vec<f64> {
    /// Longitudes within 540 degrees and grids within 720: no farther away.
    const TURNS: i32 = 3;
    if !area.west.is_finite() {
        return vec![0.0];
    }
    let [west, _, east, _] = extent(points);
    let all = (-TURNS..=TURNS).map(|turns| TURN * f64::from(turns));
    all.filter(|shift| west + shift <= area.east && area.west <= east + shift).collect()
}

/// How far inside an area a point is, as seen from one side; negative outside.
type Side = fn(&LonLatBox, (f64, f64)) -> f64;

/// The sides of an area as distances of a point within, negative outside.
const SIDES: [Side; 4] = [
    |area, (lon, _)| lon - area.west,
    |area, (lon, _)| area.east - lon,
    |area, (_, lat)| lat - area.south,
    |area, (_, lat)| area.north - lat,
];

fn cut(a: (f64, f64), b: (f64, f64), (inside_a, inside_b): (f64, f64)) -> (f64, f64) {
    let part = inside_a / (inside_a - inside_b);
    (a.0 + part * (b.0 - a.0), a.1 + part * (b.1 - a.1))
}

/// A ring without what lies outside an area, after Sutherland and Hodgman: along the area's sides it
/// runs outside the grid. Closed again, or empty.
pub(super) fn clip_ring(ring: &[(f64, f64)], shift: f64, area: &LonLatBox) -> Vec<(f64, f64)> {
    let mut ring: Vec<_> = ring.iter().map(|(lon, lat)| (lon + shift, *lat)).collect();
    for side in SIDES {
        if ring.iter().all(|point| side(area, *point) >= 0.0) {
            continue;
        }
        let mut kept = Vec::with_capacity(ring.len() + 4);
        for pair in ring.windows(2) {
            let inside = (side(area, pair[0]), side(area, pair[1]));
            if inside.0 >= 0.0 {
                kept.push(pair[0]);
            }
            if (inside.0 >= 0.0) != (inside.1 >= 0.0) {
                kept.push(cut(pair[0], pair[1], inside));
            }
        }
        kept.extend(kept.first().copied());
        ring = kept;
    }
    ring
}

/// The pieces of a line that lie in an area.
pub(super) fn clip_line(line: &[(f64, f64)], shift: f64, area: &LonLatBox) -> Vec<Vec<(f64, f64)>> {
    let line: Vec<_> = line.iter().map(|(lon, lat)| (lon + shift, *lat)).collect();
    let is_in = |point: (f64, f64)| SIDES.iter().all(|side| side(area, point) >= 0.0);
    if line.iter().all(|point| is_in(*point)) {
        return vec![line];
    }
    let mut pieces: Vec<Vec<(f64, f64)>> = Vec::new();
    for pair in line.windows(2) {
        let (mut a, mut b) = (pair[0], pair[1]);
        let mut is_gone = false;
        for side in SIDES {
            let inside = (side(area, a), side(area, b));
            match (inside.0 >= 0.0, inside.1 >= 0.0) {
                (true, true) => {}
                (false, false) => is_gone = true,
                (true, false) => b = cut(a, b, inside),
                (false, true) => a = cut(a, b, inside),
            }
        }
        if is_gone {
            continue;
        }
        match pieces.last_mut() {
            Some(piece) if piece.last() == Some(&a) => piece.push(b),
            _ => pieces.push(vec![a, b]),
        }
    }
    pieces
}

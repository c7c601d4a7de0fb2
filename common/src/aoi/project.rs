//! Rectangles and geometries from one CRS to another, across the antimeridian and around the poles.

use super::clip::{clip_line, clip_ring, join_at_antimeridian, shifts};
use super::{AoiError, Geometry, LON_LAT, Sampling, TURN};
use crate::grid::{Crs, Grid};
use crate::limits::Limits;
use crate::scene::LonLatBox;
use crate::transform::{Transform, TransformError};

/// Pieces of each edge of a rectangle whose image in another CRS is wanted: edges become curves.
/// As GDAL's `OCTTransformBounds` has it with 21 points between the corners.
const EDGE_PIECES: usize = 22;

/// Most pieces of an edge, where it bends so much that more of them change the image.
const EDGE_PIECES_MAX: usize = EDGE_PIECES * 64;

/// Change of a side by more points, as a part of it, for which the points were too few.
const BENDS: f64 = 1e-3;

/// A place that comes back this far off, in radians, was never shown: six metres.
const LOST_RADIANS: f64 = 1e-6;

/// Farthest in pixels that a geometry's edge may run beside its true course.
const DEVIATION_PIXELS: f64 = 0.01;

/// How often an edge of a geometry is divided at most.
const DIVISIONS_MAX: usize = 14;

/// A geometry may take this many times `Limits::outline_vertices` once its edges bend.
const BENDING_FACTOR: usize = 8;

/// Degrees around a grid in which a geometry's parts are kept.
const CLIP_MARGIN_DEGREES: f64 = 0.01;

/// From one CRS into another, whose x may go on around the earth.
pub(super) struct Projector<'a> {
    transform: &'a dyn Transform,
    from: Crs,
    to: Crs,
    /// Whether `from` is in degrees.
    is_geographic: bool,
    /// Where x of `to` is a linear function of longitude.
    turn: Option<Turn>,
}

/// x as a linear function of longitude: geographic CRSs and upright cylinders.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// x of longitude 0.
    zero: f64,
    /// x per degree.
    slope: f64,
}

impl Turn {
    /// x once around the earth.
    fn period(&self) -> f64 {
        self.slope * TURN
    }

    /// x moved by whole turns to where its longitude belongs, which may be beyond 180 degrees.
    fn unwrap(&self, lon: f64, x: f64) -> f64 {
        x + self.period() * ((self.zero + self.slope * lon - x) / self.period()).round()
    }

    fn lon(&self, x: f64) -> f64 {
        (x - self.zero) / self.slope
    }
}

impl<'a> Projector<'a> {
    pub(super) fn new(transform: &'a dyn Transform, from: &Crs, to: &Crs) -> Result<Self, AoiError> {
        let is_geographic = transform.is_geographic(from)?;
        let mut projector =
            Projector { transform, from: from.clone(), to: to.clone(), is_geographic, turn: None };
        if is_geographic {
            projector.turn = projector.find_turn();
        }
        Ok(projector)
    }

    fn find_turn(&self) -> Option<Turn> {
        /// Differences in x that are rounding or the shift between two datums, as a part of a turn.
        const ALIKE: f64 = 1e-5;
        const STEP: f64 = 15.0;
        let mut points: Vec<(f64, f64)> = Vec::new();
        for lat in [0.0, 50.0, -35.0] {
            points.extend((0..24).map(|at| (-172.5 + STEP * f64::from(at), lat)));
        }
        self.transform.points(&self.from, &self.to, &mut points).ok()?;
        let steps = points[..24].windows(2).map(|pair| (pair[1].0 - pair[0].0) / STEP);
        let mut slopes: Vec<f64> = steps.collect();
        slopes.sort_by(f64::total_cmp);
        let slope = slopes[slopes.len() / 2];
        if !(slope.is_finite() && slope > 0.0) {
            return None;
        }
        let turn = Turn { slope, zero: points[11].0 - slope * (-172.5 + STEP * 11.0) };
        let is_linear = points.iter().enumerate().all(|(at, (x, y))| {
            let lon = -172.5 + STEP * (at % 24) as f64;
            let row = points[at / 24 * 24].1;
            let off = turn.unwrap(lon, *x) - (turn.zero + turn.slope * lon);
            off.abs() <= ALIKE * turn.period() && (y - row).abs() <= ALIKE * turn.period()
        });
        is_linear.then_some(turn)
    }

    /// Moves places, each x to where its longitude belongs.
    fn points(&self, places: &[(f64, f64)]) -> Result<Vec<(f64, f64)>, TransformError> {
        let mut points = places.to_vec();
        self.transform.points(&self.from, &self.to, &mut points)?;
        if let Some(turn) = self.turn {
            for ((lon, _), (x, _)) in places.iter().zip(&mut points) {
                *x = turn.unwrap(*lon, *x);
            }
        }
        Ok(points)
    }

    /// The bounds of a rectangle's image: west, south, east, north, beyond 180 degrees where it
    /// crosses the antimeridian. West must be less than east.
    pub(super) fn bounds(&self, bounds: [f64; 4]) -> Result<[f64; 4], AoiError> {
        let mut pieces = EDGE_PIECES;
        let mut image = self.image(bounds, pieces)?;
        while pieces < EDGE_PIECES_MAX {
            let finer = self.image(bounds, 4 * pieces)?;
            let side = |at: usize| (finer[at + 2] - finer[at]).abs().max(f64::MIN_POSITIVE);
            let change = (0..4).map(|at| (finer[at] - image[at]).abs() / side(at % 2)).fold(0.0, f64::max);
            if change <= BENDS {
                break;
            }
            (image, pieces) = (finer, 4 * pieces);
        }
        Ok(image)
    }

    fn image(&self, bounds: [f64; 4], pieces: usize) -> Result<[f64; 4], AoiError> {
        let [west, south, east, north] = bounds;
        let mut places = edges(bounds, pieces);
        if self.is_geographic && east - west >= TURN - 1.0 {
            // Around the earth, what is farthest out may lie within.
            let at = |from: f64, to: f64, part: usize| from + (to - from) * part as f64 / EDGE_PIECES as f64;
            let inside = (1..EDGE_PIECES).flat_map(|row| (1..EDGE_PIECES).map(move |col| (row, col)));
            places.extend(inside.map(|(row, col)| (at(west, east, col), at(south, north, row))));
        }
        let beyond = |place: (f64, f64)| AoiError::Beyond {
            what: "bounds",
            x: place.0,
            y: place.1,
            from: self.from.clone(),
            to: self.to.clone(),
        };
        let mut points = match self.points(&places) {
            Ok(points) => points,
            Err(TransformError::NoPlace { x, y, .. }) => return Err(beyond((x, y))),
            Err(error) => return Err(error.into()),
        };
        self.check_shown(bounds, &places, &points).map_err(beyond)?;
        self.check_poles(&places, &points).map_err(beyond)?;
        if self.is_geographic {
            return Ok(extent(points));
        }
        if !self.transform.is_geographic(&self.to)? {
            self.unwrap_by_way_of_longitudes(&places, &mut points)?;
            return Ok(extent(points));
        }
        let winding = unwrap_ring(&mut points);
        let [mut lon_west, mut lat_south, mut lon_east, mut lat_north] = extent(points);
        for pole in self.poles_in(bounds, &self.from) {
            (lat_south, lat_north) = (lat_south.min(pole), lat_north.max(pole));
            (lon_west, lon_east) = (-180.0, 180.0);
        }
        if winding.abs() > TURN / 2.0 || lon_east - lon_west >= TURN {
            (lon_west, lon_east) = (-180.0, 180.0);
        }
        let shift = TURN * ((lon_west + TURN / 2.0) / TURN).floor();
        Ok([lon_west - shift, lat_south, lon_east - shift, lat_north])
    }

    /// From one projected CRS to another whose x goes on around the earth: each x where the longitudes
    /// along the ring of places say it belongs.
    fn unwrap_by_way_of_longitudes(
        &self,
        places: &[(f64, f64)],
        points: &mut [(f64, f64)],
    ) -> Result<(), AoiError> {
        let lon_lat = Crs::from_canonical(LON_LAT);
        let Some(turn) = Projector::new(self.transform, &lon_lat, &self.to)?.turn else { return Ok(()) };
        let mut ring = places.to_vec();
        self.transform.points(&self.from, &lon_lat, &mut ring)?;
        unwrap_ring(&mut ring);
        for ((lon, _), (x, _)) in ring.iter().zip(points) {
            *x = turn.unwrap(*lon, *x);
        }
        Ok(())
    }

    /// PROJ answers for places that a projection does not show, too; those do not come back.
    fn check_shown(
        &self,
        bounds: [f64; 4],
        places: &[(f64, f64)],
        points: &[(f64, f64)],
    ) -> Result<(), (f64, f64)> {
        let mut back = points.to_vec();
        match self.transform.points(&self.to, &self.from, &mut back) {
            Ok(()) => {}
            Err(TransformError::NoPlace { x, y, .. }) => {
                let at = points.iter().position(|point| *point == (x, y)).unwrap_or(0);
                return Err(places[at]);
            }
            Err(_) => return Err(places[0]),
        }
        let [west, south, east, north] = bounds;
        let far = (east - west).max(north - south) * BENDS;
        let is_lost = |(a, b): &(&(f64, f64), &(f64, f64))| match self.is_geographic {
            true => radians_between(**a, **b) > LOST_RADIANS,
            false => (a.0 - b.0).abs().max((a.1 - b.1).abs()) > far,
        };
        match places.iter().zip(&back).find(is_lost) {
            Some((place, _)) => Err(*place),
            None => Ok(()),
        }
    }

    /// A pole at infinity comes out as a large number: a hair beside it lies somewhere else entirely.
    fn check_poles(&self, places: &[(f64, f64)], points: &[(f64, f64)]) -> Result<(), (f64, f64)> {
        const HAIR_DEGREES: f64 = 1e-6;
        let is_pole = |(_, lat): &(f64, f64)| self.is_geographic && lat.abs() > 90.0 - HAIR_DEGREES;
        let at: Vec<usize> = (0..places.len()).filter(|at| is_pole(&places[*at])).collect();
        let beside: Vec<_> = at
            .iter()
            .map(|at| (places[*at].0, places[*at].1 - HAIR_DEGREES * places[*at].1.signum()))
            .collect();
        let Ok(moved) = self.points(&beside) else { return Ok(()) };
        let [west, south, east, north] = extent(points.iter().copied());
        let far = (east - west).max(north - south) * BENDS;
        let is_off = |(at, moved): &(&usize, &(f64, f64))| {
            let point = points[**at];
            (point.0 - moved.0).abs().max((point.1 - moved.1).abs()) > far
        };
        match at.iter().zip(&moved).find(is_off) {
            Some((at, _)) => Err(places[*at]),
            None => Ok(()),
        }
    }

    /// Latitudes of the poles that lie in a rectangle of a CRS.
    fn poles_in(&self, [west, south, east, north]: [f64; 4], crs: &Crs) -> Vec<f64> {
        let is_in = |pole: &f64| {
            let mut place = [(0.0, *pole)];
            let is_there = self.transform.points(&Crs::from_canonical(LON_LAT), crs, &mut place).is_ok();
            let [(x, y)] = place;
            is_there && (west..=east).contains(&x) && (south..=north).contains(&y)
        };
        [-90.0, 90.0].into_iter().filter(is_in).collect()
    }

    /// The bounds of a geometry in the grid's CRS.
    pub(super) fn extent_of(
        &self,
        geometry: &Geometry,
        sampling: Sampling,
        limits: &Limits,
    ) -> Result<[f64; 4], AoiError> {
        let mut geometry = geometry.clone();
        join_at_antimeridian(&mut geometry);
        let corners: Vec<_> = vertices(&geometry).collect();
        let [west, south, east, north] = extent(self.points(&corners).map_err(|e| self.beyond(e))?);
        let pixel = match sampling {
            Sampling::Resolution(x, y) => (x, y),
            Sampling::Shape { rows, cols } => {
                ((east - west) / cols.max(1) as f64, (north - south) / rows.max(1) as f64)
            }
        };
        let bent = self.bend(&geometry, pixel, limits)?;
        Ok(extent(vertices(&bent)))
    }

    /// The parts of a geometry that can touch a grid, in its lattice's pixels: moved by whole turns to
    /// where the grid is, clipped around it, their edges bent as the grid's CRS bends them.
    pub(super) fn place(
        &self,
        geometry: &Geometry,
        grid: &Grid,
        limits: &Limits,
    ) -> Result<Geometry, AoiError> {
        let area = self.clip_box(grid);
        let mut near = Geometry::default();
        for polygon in &geometry.polygons {
            for shift in shifts(polygon.iter().flatten().copied(), &area) {
                let clip = |ring: &Vec<(f64, f64)>| clip_ring(ring, shift, &area);
                let rings: Vec<_> = polygon.iter().map(clip).filter(|ring| ring.len() >= 4).collect();
                if !rings.is_empty() {
                    near.polygons.push(rings);
                }
            }
        }
        for line in &geometry.lines {
            for shift in shifts(line.iter().copied(), &area) {
                near.lines.extend(clip_line(line, shift, &area));
            }
        }
        let lattice = grid.lattice();
        let mut placed = self.bend(&near, lattice.resolution(), limits)?;
        for point in placed.polygons.iter_mut().flatten().chain(&mut placed.lines).flatten() {
            *point = (lattice.col(point.0), lattice.row(point.1));
        }
        Ok(placed)
    }

    /// Longitudes and latitudes around a grid; endless in longitude where the grid holds a pole.
    fn clip_box(&self, grid: &Grid) -> LonLatBox {
        let mut area = lon_lat_box(grid, self.transform);
        let (west, _, east, _) = grid.bounds();
        if let Some(turn) = self.turn {
            // Exact, and on the turn of the grid. A cylinder's edges do not bulge either.
            if let Some([_, south, _, north]) = upright_extent(grid, self.transform) {
                (area.south, area.north) = (south, north);
            }
            (area.west, area.east) = (turn.lon(west), turn.lon(east));
        } else if area.east - area.west >= TURN {
            (area.west, area.east) = (f64::NEG_INFINITY, f64::INFINITY);
        }
        LonLatBox {
            west: area.west - CLIP_MARGIN_DEGREES,
            south: area.south - CLIP_MARGIN_DEGREES,
            east: area.east + CLIP_MARGIN_DEGREES,
            north: area.north + CLIP_MARGIN_DEGREES,
        }
    }

    fn beyond(&self, error: TransformError) -> AoiError {
        match error {
            TransformError::NoPlace { x, y, .. } => AoiError::Beyond {
                what: "geometry's edges",
                x,
                y,
                from: self.from.clone(),
                to: self.to.clone(),
            },
            other => other.into(),
        }
    }

    /// A geometry in the other CRS, with vertices added where its straight edges become curves.
    fn bend(&self, geometry: &Geometry, pixel: (f64, f64), limits: &Limits) -> Result<Geometry, AoiError> {
        let mut budget = limits.outline_vertices.saturating_mul(BENDING_FACTOR);
        let mut bend = |line: &Vec<(f64, f64)>| self.bend_line(line, pixel, &mut budget, limits);
        let polygons = geometry.polygons.iter().map(|rings| rings.iter().map(&mut bend).collect());
        let polygons = polygons.collect::<Result<_, _>>()?;
        let lines = geometry.lines.iter().map(&mut bend).collect::<Result<_, _>>()?;
        Ok(Geometry { polygons, lines })
    }

    fn bend_line(
        &self,
        line: &[(f64, f64)],
        (res_x, res_y): (f64, f64),
        budget: &mut usize,
        limits: &Limits,
    ) -> Result<Vec<(f64, f64)>, AoiError> {
        /// A vertex's place and its point, and whether the edge that follows is still to be looked at.
        type Node = ((f64, f64), (f64, f64), bool);
        /// Where an edge is looked at and divided: off its middle, where an S would look straight.
        const PART: f64 = 0.4;
        let between = |a: (f64, f64), b: (f64, f64)| (a.0 + PART * (b.0 - a.0), a.1 + PART * (b.1 - a.1));
        let points = self.points(line).map_err(|error| self.beyond(error))?;
        *budget = budget.saturating_sub(points.len());
        let mut nodes: Vec<Node> =
            line.iter().zip(points).map(|(place, point)| (*place, point, true)).collect();
        if self.transform.same(&self.from, &self.to) {
            nodes.iter_mut().for_each(|node| node.2 = false);
        }
        for _ in 0..DIVISIONS_MAX {
            let open = |pair: &&[Node]| pair[0].2;
            let places: Vec<_> =
                nodes.windows(2).filter(open).map(|pair| between(pair[0].0, pair[1].0)).collect();
            if places.is_empty() {
                break;
            }
            let mut found = places.iter().zip(self.points(&places).map_err(|error| self.beyond(error))?);
            let mut finer = Vec::with_capacity(nodes.len() + places.len());
            for at in 0..nodes.len() {
                let (place, point, is_open) = nodes[at];
                let (Some(next), true) = (nodes.get(at + 1), is_open) else {
                    finer.push((place, point, false));
                    continue;
                };
                let Some((between_place, true_point)) = found.next() else { break };
                let straight = between(point, next.1);
                let off = ((true_point.0 - straight.0) / res_x)
                    .abs()
                    .max(((true_point.1 - straight.1) / res_y).abs());
                if off <= DEVIATION_PIXELS {
                    finer.push((place, point, false));
                } else {
                    *budget = budget.checked_sub(1).ok_or_else(|| AoiError::Bends {
                        crs: self.to.clone(),
                        limit: limits.outline_vertices.saturating_mul(BENDING_FACTOR),
                    })?;
                    finer.push((place, point, true));
                    finer.push((*between_place, true_point, true));
                }
            }
            nodes = finer;
        }
        Ok(nodes.into_iter().map(|(_, point, _)| point).collect())
    }
}

/// The rectangle in degrees that holds a grid: its longitudes go on beyond 180 where the grid crosses
/// the antimeridian, as [catalogs](crate::scene::LonLatBox) take it. West is within -180 and 180. Where
/// a part of the grid has no longitude, the whole earth.
pub fn lon_lat_box(grid: &Grid, transform: &dyn Transform) -> LonLatBox {
    /// Catalogs round footprints to about a centimetre; a scene must not be missed for that.
    const MARGIN_DEGREES: f64 = 1e-5;
    const EARTH: LonLatBox = LonLatBox { west: -180.0, south: -90.0, east: 180.0, north: 90.0 };
    let (grid_west, grid_south, grid_east, grid_north) = grid.bounds();
    let mut edge = edges([grid_west, grid_south, grid_east, grid_north], EDGE_PIECES);
    let lon_lat = Crs::from_canonical(LON_LAT);
    if transform.points(grid.crs(), &lon_lat, &mut edge).is_err() {
        return EARTH;
    }
    let winding = unwrap_ring(&mut edge);
    let [west, south, east, north] = extent(edge);
    // Between two points an edge bulges by less than a twentieth of its length.
    let bulge = MARGIN_DEGREES + (east - west).max(north - south) / 20.0;
    let mut area = LonLatBox {
        west: west - bulge,
        south: (south - bulge).max(-90.0),
        east: east + bulge,
        north: (north + bulge).min(90.0),
    };
    let is_geographic = transform.is_geographic(grid.crs()).unwrap_or(false);
    // Around a pole lie all longitudes.
    for pole in [-90.0, 90.0].into_iter().filter(|_| !is_geographic) {
        let mut place = [(0.0, pole)];
        let is_there = transform.points(&lon_lat, grid.crs(), &mut place).is_ok();
        let [(x, y)] = place;
        if is_there && (grid_west..=grid_east).contains(&x) && (grid_south..=grid_north).contains(&y) {
            (area.west, area.east) = (EARTH.west, EARTH.east);
            (area.south, area.north) = (area.south.min(pole), area.north.max(pole));
        }
    }
    if area.east - area.west >= TURN || winding.abs() > TURN / 2.0 {
        (area.west, area.east) = (EARTH.west, EARTH.east);
    }
    let shift = TURN * ((area.west + TURN / 2.0) / TURN).floor();
    LonLatBox { west: area.west - shift, east: area.east - shift, ..area }
}

/// West, south, east, north of a grid in degrees, without margins.
fn upright_extent(grid: &Grid, transform: &dyn Transform) -> Option<[f64; 4]> {
    let (west, south, east, north) = grid.bounds();
    let mut edge = edges([west, south, east, north], EDGE_PIECES);
    transform.points(grid.crs(), &Crs::from_canonical(LON_LAT), &mut edge).ok()?;
    Some(extent(edge))
}

/// Points along the four edges of a rectangle, once around.
fn edges([west, south, east, north]: [f64; 4], pieces: usize) -> Vec<(f64, f64)> {
    // The last point is the corner itself, whatever rounding does.
    let along = |from: f64, to: f64, at: usize| match at {
        _ if at == pieces => to,
        _ => from + (to - from) / pieces as f64 * at as f64,
    };
    let all = || 0..=pieces;
    let mut points: Vec<(f64, f64)> = Vec::with_capacity(4 * (pieces + 1));
    points.extend(all().map(|at| (along(west, east, at), south)));
    points.extend(all().map(|at| (east, along(south, north, at))));
    points.extend(all().map(|at| (along(east, west, at), north)));
    points.extend(all().map(|at| (west, along(north, south, at))));
    points
}

/// Moves longitudes along a ring by whole turns until none jumps; the turns that the ring makes, in
/// degrees.
fn unwrap_ring(ring: &mut [(f64, f64)]) -> f64 {
    let Some((first, _)) = ring.first().copied() else { return 0.0 };
    let mut last = first;
    for (lon, _) in ring.iter_mut() {
        *lon -= TURN * ((*lon - last) / TURN).round();
        last = *lon;
    }
    last - first
}

/// West, south, east, north of points.
pub(super) fn extent(points: impl IntoIterator<Item = (f64, f64)>) -> [f64; 4] {
    let start = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
    points.into_iter().fold(start, |[west, south, east, north], (x, y)| {
        [west.min(x), south.min(y), east.max(x), north.max(y)]
    })
}

fn vertices(geometry: &Geometry) -> impl Iterator<Item = (f64, f64)> {
    geometry.polygons.iter().flatten().chain(&geometry.lines).flatten().copied()
}

/// The angle between two places in degrees, seen from the centre of the earth.
fn radians_between(a: (f64, f64), b: (f64, f64)) -> f64 {
    let unit = |(lon, lat): (f64, f64)| {
        let (lon, lat) = (lon.to_radians(), lat.to_radians());
        [libm::cos(lat) * libm::cos(lon), libm::cos(lat) * libm::sin(lon), libm::sin(lat)]
    };
    let (a, b) = (unit(a), unit(b));
    libm::sqrt(a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum())
}

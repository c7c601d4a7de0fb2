// Where things are: grids of areas, lines of a graticule, coordinates as text. Pure.

const RADIUS = 6378137;
const WORLD = Math.PI * RADIUS;
const LAT_MAX = 85.0511287798066;

/** Longitude and latitude in degrees as metres of EPSG:3857. */
export function mercator(lon, lat) {
  const clamped = Math.min(LAT_MAX, Math.max(-LAT_MAX, lat));
  return [(lon * WORLD) / 180, RADIUS * Math.asinh(Math.tan((clamped * Math.PI) / 180))];
}

/**
 * Longitude and latitude as metres of a UTM zone on the WGS 84 ellipsoid: Krüger's series to the third order,
 * better than a millimetre within the zone.
 */
export function utm(lon, lat, zone, south) {
  const f = 1 / 298.257223563;
  const n = f / (2 - f);
  const a = (RADIUS / (1 + n)) * (1 + n ** 2 / 4 + n ** 4 / 64);
  const alpha = [n / 2 - (2 / 3) * n ** 2 + (5 / 16) * n ** 3, (13 / 48) * n ** 2 - (3 / 5) * n ** 3, (61 / 240) * n ** 3];
  const phi = (lat * Math.PI) / 180;
  const lambda = ((lon - (zone * 6 - 183)) * Math.PI) / 180;
  const e = (2 * Math.sqrt(n)) / (1 + n);
  const t = Math.sinh(Math.atanh(Math.sin(phi)) - e * Math.atanh(e * Math.sin(phi)));
  const xi = Math.atan2(t, Math.cos(lambda));
  const eta = Math.atanh(Math.sin(lambda) / Math.sqrt(1 + t * t));
  let [x, y] = [eta, xi];
  alpha.forEach((coefficient, at) => {
    const j = 2 * (at + 1);
    x += coefficient * Math.cos(j * xi) * Math.sinh(j * eta);
    y += coefficient * Math.sin(j * xi) * Math.cosh(j * eta);
  });
  return [500000 + 0.9996 * a * x, (south ? 10000000 : 0) + 0.9996 * a * y];
}

/** `[west, south, east, north]` of a GeoJSON polygon. */
export function boundsOf(polygon) {
  const ring = polygon.coordinates[0];
  const lons = ring.map(([lon]) => lon);
  const lats = ring.map(([, lat]) => lat);
  return [Math.min(...lons), Math.min(...lats), Math.max(...lons), Math.max(...lats)];
}

/** A rectangle as a GeoJSON polygon. */
export function rectangle([west, south, east, north]) {
  return { type: "Polygon", coordinates: [[[west, south], [east, south], [east, north], [west, north], [west, south]]] };
}

/** Whether a polygon is its own bounding box. */
export function isRectangle(polygon) {
  const [west, south, east, north] = boundsOf(polygon);
  const ring = polygon.coordinates[0];
  return ring.length === 5 && ring.every(([lon, lat]) => (lon === west || lon === east) && (lat === south || lat === north));
}

/** The grids that an area may be computed on: `{crs, name, unit, project(lon, lat)}`, the best one first. */
export function gridsFor(bounds) {
  const [west, south, east, north] = bounds;
  const grids = [];
  const [lon, lat] = [(west + east) / 2, (south + north) / 2];
  if (east - west <= 9 && Math.abs(lat) < 83) {
    const zone = Math.min(60, Math.max(1, Math.floor((lon + 180) / 6) + 1));
    const isSouth = lat < 0;
    grids.push({
      crs: `EPSG:${(isSouth ? 32700 : 32600) + zone}`,
      name: `UTM zone ${zone}${isSouth ? "S" : "N"}, metres`,
      unit: "m",
      project: (x, y) => utm(x, y, zone, isSouth),
    });
  }
  grids.push({ crs: "EPSG:3857", name: "Web Mercator, metres", unit: "m", project: mercator });
  grids.push({ crs: "EPSG:4326", name: "Longitude and latitude, degrees", unit: "°", project: (x, y) => [x, y] });
  return grids;
}

/** Columns and rows of an area on a grid, about: the server's count may differ by one at each side. */
export function pixelsOf(bounds, grid, resolution) {
  const [west, south, east, north] = bounds;
  const steps = 20;
  let [left, bottom, right, top] = [Infinity, Infinity, -Infinity, -Infinity];
  const take = (lon, lat) => {
    const [x, y] = grid.project(lon, lat);
    [left, right] = [Math.min(left, x), Math.max(right, x)];
    [bottom, top] = [Math.min(bottom, y), Math.max(top, y)];
  };
  // Edges bend from one projection to another: corners alone would miss what bulges.
  for (let at = 0; at <= steps; at += 1) {
    const lon = west + ((east - west) * at) / steps;
    const lat = south + ((north - south) * at) / steps;
    take(lon, south);
    take(lon, north);
    take(west, lat);
    take(east, lat);
  }
  return { columns: Math.max(1, Math.ceil((right - left) / resolution)), rows: Math.max(1, Math.ceil((top - bottom) / resolution)) };
}

/** A resolution in metres in the unit of a grid, at an area. */
export function resolutionOn(grid, metres, bounds) {
  const lat = (bounds[1] + bounds[3]) / 2;
  if (grid.unit === "°") return metres / 111320;
  return grid.crs === "EPSG:3857" ? metres / Math.max(0.02, Math.cos((lat * Math.PI) / 180)) : metres;
}

const DEGREE = 1;
const MINUTE = 1 / 60;
const SECOND = 1 / 3600;
const SPACINGS = [
  30, 20, 10, 5, 2, DEGREE, 30 * MINUTE, 20 * MINUTE, 10 * MINUTE, 5 * MINUTE, 2 * MINUTE, MINUTE,
  30 * SECOND, 20 * SECOND, 10 * SECOND, 5 * SECOND, 2 * SECOND, SECOND,
];

/** The narrowest spacing in degrees of which a line is at least so many pixels from the next. */
export function spacing(degreesPerPixel, pixels) {
  const wanted = degreesPerPixel * pixels;
  return [...SPACINGS].reverse().find((step) => step >= wanted * (1 - 1e-9)) ?? SPACINGS[0];
}

/** Multiples of `step` from `low` to `high`, counted so that no error builds up. */
export function multiples(low, high, step) {
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at += 1) found.push(at * step);
  return found;
}

/** A line's label, such as `40°17′30″N`, as exact as its spacing asks. */
export function angle(value, step, isLatitude) {
  const wrapped = isLatitude ? value : ((((value + 180) % 360) + 360) % 360) - 180;
  const letter = isLatitude ? "NS" : "EW";
  const total = Math.round(Math.abs(wrapped) * 3600);
  const [degrees, minutes, seconds] = [Math.floor(total / 3600), Math.floor((total % 3600) / 60), total % 60];
  const two = (part) => String(part).padStart(2, "0");
  let text = `${degrees}°`;
  if (step < DEGREE * 0.999) text += `${two(minutes)}′`;
  if (step < MINUTE * 0.999) text += `${two(seconds)}″`;
  return total === 0 || (!isLatitude && total === 180 * 3600) ? text : `${text}${wrapped > 0 ? letter[0] : letter[1]}`;
}

/** Latitude and longitude as text of so many digits. */
export function position(lat, lon, digits) {
  return `${Math.abs(lat).toFixed(digits)}° ${lat < 0 ? "S" : "N"}, ${Math.abs(lon).toFixed(digits)}° ${lon < 0 ? "W" : "E"}`;
}

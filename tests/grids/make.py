"""The oracle of grids and outlines: AOIs, and what PROJ and GDAL (by way of rasterio and pyproj) make of them.

    python make.py            rewrite the files beside this one
    python make.py --check    compare them with what would be written; exit 1 where they differ

It shares no code with the engine. Needs numpy, rasterio and pyproj.

cases.json     an AOI, its grid (upper left corner, rows, columns), and how many pixels of its mask may differ
               from GDAL's: bent edges are followed within a hundredth of a pixel
masks.npz      `<case>`: bool, true outside the geometry, as rasterio.features.geometry_mask has it
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pyproj
import rasterio.features
import rasterio.transform
import rasterio.warp

HERE = Path(__file__).parent
SINUSOIDAL = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"
LAEA = "+proj=laea +lat_0=10 +lon_0=20 +datum=WGS84 +units=m +no_defs"
# A thousandth of a pixel is rounding.
ROUNDING = 1e-3


def is_geographic(crs):
    return pyproj.CRS.from_user_input(crs).is_geographic


def image(bounds, source, target, points):
    """Bounds in the target CRS; beyond 180 degrees across the antimeridian."""
    west, south, east, north = bounds
    if pyproj.CRS.from_user_input(source) == pyproj.CRS.from_user_input(target):
        return [west, south, east + 360 if west > east else east, north]
    if is_geographic(source) and west > east:
        transformer = pyproj.Transformer.from_crs(source, target, always_xy=True)
        along = np.linspace(0, 1, points + 2)
        lon = (west + (east + 360 - west) * along + 180) % 360 - 180
        lat = south + (north - south) * along
        xs = np.concatenate([lon, lon, np.full_like(lat, west), np.full_like(lat, east)])
        ys = np.concatenate([np.full_like(lon, south), np.full_like(lon, north), lat, lat])
        x, y = transformer.transform(xs, ys)
        return [x.min(), y.min(), x.max(), y.max()]
    west, south, east, north = rasterio.warp.transform_bounds(source, target, *bounds, densify_pts=points)
    if west > east:
        east += 360
    return [west, south, east, north]


def grid(aoi, bounds):
    west, south, east, north = bounds
    if "shape" in aoi:
        rows, cols = aoi["shape"]
        return {"x": west, "y": north, "rows": rows, "cols": cols}
    res_x, res_y = aoi["resolution"]
    x, y = west, north
    if aoi["align"]:
        x = math.floor(west / res_x + ROUNDING) * res_x
        y = math.ceil(north / res_y - ROUNDING) * res_y
    rows = max(1, math.ceil((y - south) / res_y - ROUNDING))
    cols = max(1, math.ceil((east - x) / res_x - ROUNDING))
    return {"x": x, "y": y, "rows": rows, "cols": cols}


# ---------------------------------------------------------------- bounds


def bounds_cases():
    def aoi(crs, bounds, bounds_crs="EPSG:4326", align=False, **sampling):
        if "resolution" in sampling and not isinstance(sampling["resolution"], tuple):
            sampling["resolution"] = (sampling["resolution"],) * 2
        sampling = {key: list(value) for key, value in sampling.items()}
        return {"crs": crs, "bounds": bounds, "bounds_crs": bounds_crs, "align": align, **sampling}

    places = {
        "EPSG:32613": ([-105.5, 39.7, -105.1, 40.2], 10.0),
        "EPSG:32733": ([14.2, -33.9, 15.9, -32.1], 30.0),
        "EPSG:3857": ([12.9, 52.3, 13.2, 52.5], 9.554628535647032),
        "EPSG:3395": ([12.9, 52.3, 13.2, 52.5], 10.0),
        "EPSG:5070": ([-100.0, 35.0, -97.3, 38.1], 30.0),
        "EPSG:3035": ([4.0, 50.0, 9.0, 55.0], 100.0),
        "EPSG:3031": ([30.0, -75.0, 60.0, -70.0], 250.0),
        "EPSG:3413": ([-60.0, 65.0, -30.0, 80.0], 250.0),
        "EPSG:27700": ([-3.5, 51.2, -2.1, 53.0], 25.0),
        "EPSG:2056": ([7.1, 46.2, 9.4, 47.4], 12.5),
        "ESRI:54009": ([100.0, -20.0, 110.0, -10.0], 1000.0),
        "ESRI:102003": ([-90.2, 33.0, -88.1, 36.0], 60.0),
        "EPSG:4267": ([-105.5, 39.7, -105.1, 40.2], 0.001),
        SINUSOIDAL: ([-60.3, 0.2, -50.7, 10.1], 463.3127165279165),
        LAEA: ([10.0, -5.0, 30.0, 20.0], 500.0),
    }
    cases = []
    for crs, (bounds, resolution) in places.items():
        cases.append(aoi(crs, bounds, resolution=resolution))
        cases.append(aoi(crs, bounds, resolution=resolution, align=True))
        cases.append(aoi(crs, bounds, shape=(123, 456)))
    cases += [
        # From a projected CRS.
        aoi("EPSG:4326", [400000, 4400000, 500000, 4500000], "EPSG:32613", resolution=0.001),
        aoi("EPSG:32612", [400000, 4400000, 500000, 4500000], "EPSG:32613", resolution=10.0, align=True),
        aoi("EPSG:3857", [400000, 4400000, 500000, 4500000], "EPSG:32613", resolution=(20.0, 10.0)),
        aoi("EPSG:4326", [1000000, 300000, 1500000, 900000], "EPSG:3031", resolution=0.01),
        aoi("EPSG:32661", [-300000, -900000, 100000, -200000], "EPSG:3413", resolution=100.0),
        # Across the antimeridian.
        aoi("EPSG:4326", [170, -20, -170, 10], resolution=0.25),
        aoi("EPSG:4326", [179.5, 60, -179.5, 70], resolution=(0.01, 0.005), align=True),
        aoi("EPSG:32601", [179.2, -10, -179.1, 20], resolution=100.0),
        aoi("EPSG:32660", [178.2, 1, -179.6, 4], resolution=30.0, align=True),
        aoi("EPSG:3832", [170, -40, -160, -20], resolution=1000.0),
        aoi("EPSG:3413", [170, 66, -170, 70], resolution=500.0),
        aoi("EPSG:3031", [150, -80, -150, -70], resolution=500.0),
        aoi("EPSG:4326", [300000, 7000000, 700000, 7400000], "EPSG:32601", resolution=0.01),
        aoi("EPSG:4326", [100000, 7000000, 300000, 7400000], "EPSG:32601", resolution=0.01),
        # Poles, and around the earth: 1407 points, for 21 are too few.
        {**aoi("EPSG:3413", [-180, 60, 180, 90], resolution=20000.0), "points": 1407},
        {**aoi("EPSG:3031", [-180, -90, 180, -62], resolution=25000.0), "points": 1407},
        {**aoi("EPSG:3995", [-180, 70, 180, 85], resolution=25000.0), "points": 1407},
        {
            **aoi("EPSG:4326", [-1000000, -500000, 500000, 1000000], "EPSG:3413", resolution=0.25),
            "points": 1407,
        },
        {**aoi("EPSG:3857", [-180, -80, 180, 80], resolution=50000.0), "points": 1407},
    ]
    for case in cases:
        case["grid"] = grid(
            case, image(case["bounds"], case["bounds_crs"], case["crs"], case.pop("points", 21))
        )
    return cases


# ---------------------------------------------------------------- outlines


def star(rng, lon, lat, size, points):
    """A polygon of many spikes around a place."""
    angles = np.sort(rng.uniform(0, 2 * math.pi, points))
    radii = size * rng.uniform(0.3, 1.0, points)
    ring = [[lon + r * math.cos(a), lat + r * math.sin(a)] for a, r in zip(angles, radii, strict=True)]
    return [*ring, ring[0]]


def rectangle(west, south, east, north):
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def dense(ring, pieces):
    """Vertices along the straight edges of a ring."""
    ring = np.asarray(ring, dtype=float)
    parts = np.arange(pieces)[:, None] / pieces
    edges = [a + (b - a) * parts for a, b in itertools.pairwise(ring)]
    return np.concatenate([*edges, ring[-1:]])


def outline_cases():
    rng = np.random.default_rng(20240105)

    def polygon(*rings):
        return {"type": "Polygon", "coordinates": list(rings)}

    def multi(*polygons):
        return {"type": "MultiPolygon", "coordinates": [p["coordinates"] for p in polygons]}

    lon_lat = "EPSG:4326"
    utm = "EPSG:32613"
    holed = polygon(star(rng, -105, 40, 0.5, 40), star(rng, -105, 40, 0.12, 9))
    split = multi(polygon(rectangle(176.3, -3.2, 180, 4.1)), polygon(rectangle(-180, -3.2, -174.2, 4.1)))
    beyond = polygon(rectangle(176.3, -3.2, 185.8, 4.1))
    beyond_west = polygon(rectangle(-183.7, -3.2, -174.2, 4.1))
    triangle = polygon([[-20, 30.2], [40.3, 32], [8, 67], [-20, 30.2]])
    cap = polygon(rectangle(-180, 72.3, 180, 90))
    line = {
        "type": "LineString",
        "coordinates": [[-105.4034, 39.8047], [-104.7029, 40.3073], [-104.6061, 39.7014]],
    }
    points = {"type": "MultiPoint", "coordinates": [[-105.2034, 39.9047], [-104.9129, 40.1373]]}
    # geometry, crs, bounds in crs, resolution, pieces of each edge, pixels that may differ
    rows = [
        ("star", polygon(star(rng, -105, 40, 0.5, 60)), lon_lat, [-105.5, 39.5, -104.5, 40.5], 0.01, 1, 0),
        ("holed", holed, lon_lat, [-105.5, 39.5, -104.5, 40.5], 0.008, 1, 0),
        (
            "two",
            multi(holed, polygon(star(rng, -104.7, 40.2, 0.3, 30))),
            lon_lat,
            [-106, 39, -104, 41],
            0.02,
            1,
            0,
        ),
        ("utm", holed, utm, [455000, 4370000, 545000, 4480000], 1000.0, 64, 3),
        ("bent", triangle, "EPSG:3035", [500000, 500000, 7500000, 7000000], 25000.0, 512, 6),
        ("sinusoidal", triangle, SINUSOIDAL, [-2000000, 3300000, 3600000, 7500000], 20000.0, 512, 6),
        ("mercator", triangle, "EPSG:3857", [-2300000, 3500000, 4500000, 9900000], 25000.0, 512, 6),
        ("cap", cap, "EPSG:3413", [-2500000, -2500000, 2500000, 2500000], 25000.0, 2048, 12),
        ("split", split, lon_lat, [174, -5, 188, 6], 0.1, 1, 0),
        ("beyond", beyond, lon_lat, [174, -5, 188, 6], 0.1, 1, 0),
        ("beyond_west", beyond_west, lon_lat, [174, -5, 188, 6], 0.1, 1, 0),
        ("split_west", split, lon_lat, [-188, -5, -174, 6], 0.1, 1, 0),
        ("split_utm", split, "EPSG:32601", [-400000, -400000, 800000, 500000], 10000.0, 256, 6),
        ("beyond_utm", beyond, "EPSG:32601", [-400000, -400000, 800000, 500000], 10000.0, 256, 6),
        ("line", line, lon_lat, [-105.5, 39.5, -104.5, 40.5], 0.01, 1, 0),
        ("points", points, lon_lat, [-105.5, 39.5, -104.5, 40.5], 0.01, 1, 0),
    ]
    cases, masks = [], {}
    for name, geometry, crs, bounds, resolution, pieces, differ in rows:
        rings_only = geometry["type"].endswith("Polygon")
        for all_touched in [False, True] if rings_only else [True]:
            aoi = {"crs": crs, "bounds": bounds, "bounds_crs": crs, "align": False}
            aoi |= {"resolution": [resolution] * 2, "geometry": geometry, "all_touched": all_touched}
            aoi["name"] = name + ("_touched" if all_touched else "")
            aoi["grid"] = grid(aoi, bounds)
            aoi["differ"] = differ
            masks[aoi["name"]] = mask(aoi, pieces)
            cases.append(aoi)
    return cases, masks


def mask(aoi, pieces):
    """geometry_mask in pixel coordinates, for the geometry and for it a turn east and west."""
    place, size = aoi["grid"], aoi["resolution"][0]
    transformer = pyproj.Transformer.from_crs("EPSG:4326", aoi["crs"], always_xy=True)

    def pixels(line, shift, wants_dense):
        line = dense(line, pieces) if wants_dense else np.asarray(line, dtype=float)
        x, y = line[:, 0] + shift, line[:, 1]
        if not is_geographic(aoi["crs"]):
            x, y = transformer.transform(x, y)
        return np.column_stack([(x - place["x"]) / size, (place["y"] - y) / size]).tolist()

    geometry = aoi["geometry"]
    kind, coordinates = geometry["type"], geometry["coordinates"]
    shapes = []
    for shift in [-360, 0, 360] if is_geographic(aoi["crs"]) else [0]:
        if kind.endswith("Polygon"):
            for rings in coordinates if kind == "MultiPolygon" else [coordinates]:
                rings = [pixels(ring, shift, True) for ring in rings]
                shapes.append({"type": "Polygon", "coordinates": rings})
        elif kind == "LineString":
            shapes.append({"type": kind, "coordinates": pixels(coordinates, shift, True)})
        else:
            shapes.append({"type": kind, "coordinates": pixels(coordinates, shift, False)})
    return rasterio.features.geometry_mask(
        shapes,
        (place["rows"], place["cols"]),
        rasterio.transform.Affine.identity(),
        all_touched=aoi["all_touched"],
    )


# ---------------------------------------------------------------- files


def documents():
    outlines, masks = outline_cases()
    cases = json.dumps({"bounds": bounds_cases(), "outlines": outlines}, indent=1) + "\n"
    archive = io.BytesIO()
    np.savez_compressed(archive, **masks)
    return cases, masks, archive.getvalue()


def main():
    parser = argparse.ArgumentParser(description="Writes the grids and masks that the engine must make.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    cases, masks, archive = documents()
    if not parser.parse_args().check:
        (HERE / "cases.json").write_text(cases)
        (HERE / "masks.npz").write_bytes(archive)
        return 0
    known = np.load(HERE / "masks.npz")
    same = cases == (HERE / "cases.json").read_text() and sorted(known) == sorted(masks)
    same = same and all(np.array_equal(known[name], masks[name]) for name in masks)
    print("as written" if same else "the files differ from what this program writes")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())

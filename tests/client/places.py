"""Where the programs are computed: windows of the sample imagery on its own pixels."""

from __future__ import annotations

import dataclasses
import functools
import os
from pathlib import Path

EXAMPLES = Path(os.environ.get("GRATICULE_EXAMPLES", Path(__file__).parents[2] / "examples"))

LANDSAT, SENTINEL = "landsat57-colorado", "sentinel2-potsdam"


@dataclasses.dataclass(frozen=True)
class Place:
    """A window, by the edges of pixels."""

    epsg: int
    bounds: tuple
    resolution: float

    @property
    def aoi(self):
        import earthdaily.earthone as eo

        crs = f"EPSG:{self.epsg}"
        return eo.geo.AOI(
            bounds=self.bounds, bounds_crs=crs, crs=crs, resolution=self.resolution, align_pixels=False
        )

    @functools.cached_property
    def world(self):
        from imagery import Imagery

        folders = [EXAMPLES / "colorado", EXAMPLES / "potsdam"]
        return Imagery(*folders).world(self.epsg, self.bounds, self.resolution)


# All of the Landsat series, and a part of it.
SERIES = Place(32613, (336375.0, 4460595.0, 338205.0, 4462425.0), 30.0)
PART = Place(32613, (336615.0, 4461015.0, 337215.0, 4461855.0), 30.0)
# A part of the Sentinel-2 image, and one that hangs over its edge.
LAKE = Place(32633, (333000.0, 5816000.0, 333800.0, 5816640.0), 10.0)
EDGE = Place(32633, (329800.0, 5821800.0, 330200.0, 5822200.0), 10.0)

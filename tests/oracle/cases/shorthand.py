"""Short names for the grafts that the cases are made of."""

from __future__ import annotations

import json
from dataclasses import dataclass, field


def select(bands, start, end, product, **options):
    named = {
        "start_datetime": start,
        "end_datetime": end,
        "predicate_filter": None,
        "sort_by": None,
        "ascending": True,
        "pad": 0,
    }
    return ("select_scenes", product, bands, {**named, **options})


def stack(bands, start="2024-01-01T00:00:00", end="2025-01-01T00:00:00", product="made:up", **options):
    source = select(bands, start, end, product, **options)
    return ("stack_scenes", source, bands, {"pad": options.get("pad", 0), "resampler": "near"})


def two(bands):
    """s3 and s1."""
    return stack(bands, end="2024-05-01T00:00:00")


def three(bands):
    """s3, s1 and s5."""
    return stack(bands, end="2024-08-01T00:00:00")


def last(bands):
    """s2 and s4; band a of s4 is masked everywhere."""
    return stack(bands, start="2024-08-01T00:00:00")


def one(bands):
    """s2."""
    return stack(bands, start="2024-08-01T00:00:00", end="2024-09-01T00:00:00")


def none(bands):
    """An empty stack: no image was acquired in these days."""
    return stack(bands, start="2024-06-01T00:00:00", end="2024-06-02T00:00:00")


def other(bands):
    """o1 of the other product."""
    return stack(bands, product="made:one")


def mosaic(bands, start="2024-01-01T00:00:00", end="2025-01-01T00:00:00", product="made:up", pad=0):
    dates = {"start_datetime": start, "end_datetime": end, "pad": pad, "resampler": "near"}
    return ("mosaic", product, bands, dates)


@dataclass
class Case:
    """A graft with more to say: `parameters` to send, `ulps` and `ignore` instead of what follows from it."""

    node: object
    options: dict = field(default_factory=dict)


def case(node, **options):
    return Case(node, options)


def reduced(a, reducer, axis, kind="ImageStack", **named):
    return ("reduction", a, reducer, axis, kind, *([named] if named else []))


def finite(a):
    """The same values; what is not finite is masked, as every division does."""
    return math("truediv", a, 1)


def tame(a):
    """The same values, finite and small enough for every sum to be exact in float64."""
    return ("clip", finite(a), -512, 512)


def images(bands, *ids):
    return ("from_image_ids", json.dumps(ids), bands, {"pad": 0, "resampler": "near"})


def math(name, a, b=None):
    return ("math", name, a, b)


def over_images(a, reducer="max"):
    return ("reduction", a, reducer, "images", "ImageStack")


def flat(bands):
    """A Mosaic: only reductions make one here."""
    return over_images(stack(bands))


def pick(a, *names):
    return ("band_op", a, "pick_bands", json.dumps(names), None)


def rename(a, *names):
    return ("band_op", a, "rename_bands", json.dumps(names), None)


def join(a, b):
    return ("band_op", a, "concat_bands", None, b)


def above(a, limit):
    return math("gt", a, limit)

"""Scenes, mosaics, filters over images, and bands."""

from __future__ import annotations

import json
import math as plain_math
from datetime import datetime, timedelta

import numpy as np

from . import properties
from .values import Fault, Function, Length, Raster, Scenes, as_float, expect, names_of, raster

PAD_MAX = 1024
RESAMPLERS = "near bilinear cubic cubicspline lanczos average mode max min med q1 q3".split()


def instant(at, name, text, parameters=()):
    """The UTC time of a date as Python's isoformat prints it; without an offset it is UTC already."""
    if text is None:
        return None
    expect(at, name, text, str)
    if text in parameters:
        text = parameters[text]
        expect(at, name, text, str)
    try:
        moment = datetime.fromisoformat(text.removesuffix("Z"))
    except ValueError:
        raise Fault("invalid_request", at, f"`{name}`: `{text}` is no date and no parameter") from None
    return moment.replace(tzinfo=None) - (moment.utcoffset() or timedelta(0))


def padding(at, pad):
    pad = 0 if pad is None else pad
    expect(at, "pad", pad, int)
    if not 0 <= pad <= PAD_MAX:
        raise Fault("invalid_request", at, f"`pad` is {pad}")
    return pad


def resampling(at, name):
    if name is not None and name not in RESAMPLERS:
        raise Fault("invalid_request", at, f"no resampler `{name}`")


def own_properties(image):
    return {**image["properties"], "id": image["id"], "acquired": image["acquired"]}


def touches(world, image, pad):
    """Whether an image has a pixel on the grid enlarged by `pad`."""
    rows, cols = world["grid"]["rows"], world["grid"]["cols"]
    inside_rows = image["row"] < rows + pad and image["row"] + image["rows"] > -pad
    return inside_rows and image["col"] < cols + pad and image["col"] + image["cols"] > -pad


def sort_key(value):
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (0, value, "")
    return (1, 0, value) if isinstance(value, str) else (2, 0, "")


def select(ev, at, product_id, start, end, predicate=None, pad=0):
    expect(at, "product_id", product_id, str)
    start = instant(at, "start_datetime", start, ev.parameters)
    end = instant(at, "end_datetime", end, ev.parameters)
    if product_id not in ev.products:
        raise Fault("not_found", at, f"no product `{product_id}`")
    product = ev.products[product_id][1]
    holds = properties.predicate(at, predicate) if predicate is not None else lambda _: True
    chosen = []
    for image in product["scenes"]:
        acquired = instant(at, "acquired", image["acquired"])
        in_range = (start is None or start <= acquired) and (end is None or acquired < end)
        if in_range and touches(ev.world, image, pad) and holds(own_properties(image)):
            chosen.append(image)
    chosen.sort(key=lambda image: (instant(at, "acquired", image["acquired"]), image["id"]))
    return product, chosen


def select_scenes(ev, at, product_id, bands, start, end, predicate, sort_by, ascending, pad):
    expect(at, "bands", bands, str)
    ascending = True if ascending is None else ascending
    expect(at, "ascending", ascending, bool)
    padding(at, pad)
    # [D] Padding changes no stack's number of images; a mosaic takes what lies in its padding.
    product, chosen = select(ev, at, product_id, start, end, predicate)
    if sort_by is not None:
        # What is missing comes last in either direction; ties by time and id.
        known = [own_properties(image) for image in chosen]
        there = [i for i, own in enumerate(known) if own.get(sort_by) is not None]
        missing = [i for i, own in enumerate(known) if own.get(sort_by) is None]
        there.sort(key=lambda i: sort_key(known[i][sort_by]), reverse=not ascending)
        chosen = [chosen[i] for i in [*there, *missing]]
    return Scenes(product, chosen)


def place(ev, image, margin):
    """The part of an image on the enlarged grid: where it goes, where it comes from."""
    size = ev.rows + 2 * margin, ev.cols + 2 * margin
    to, of = [], []
    for start, count, limit in (
        (image["row"] + margin, image["rows"], size[0]),
        (image["col"] + margin, image["cols"], size[1]),
    ):
        low, high = max(start, 0), min(start + count, limit)
        high = max(high, low)
        to.append(slice(low, high))
        of.append(slice(low - start, high - start))
    return (slice(None), *to), of


def band_values(ev, at, product, image, wanted, of):
    for name in wanted:
        if name not in product["bands"]:
            raise Fault("impossible", at, f"`{product['id']}` has no band `{name}`")
    order = [image["bands"].index(name) for name in wanted]
    data, mask = ev.pixels(product, image)
    return data[order][:, of[0], of[1]], mask[order][:, of[0], of[1]]


def stack_scenes(ev, at, scenes, bands, pad, resampler):
    if not isinstance(scenes, Scenes):
        raise Fault("invalid_request", at, "`scenes` must come from `select_scenes`")
    expect(at, "bands", bands, str)
    resampling(at, resampler)
    pad, wanted = padding(at, pad), bands.split()
    for name in wanted:
        if name not in scenes.product["bands"]:
            raise Fault("impossible", at, f"`{scenes.product['id']}` has no band `{name}`")
    shape = (len(scenes.images), len(wanted), ev.rows + 2 * pad, ev.cols + 2 * pad)
    data, mask, props = np.zeros(shape, np.float32), np.ones(shape, bool), []
    for i, image in enumerate(scenes.images):
        to, of = place(ev, image, pad)
        data[i][to], mask[i][to] = band_values(ev, at, scenes.product, image, wanted, of)
        own = {"product_id": scenes.product["id"], "bands": wanted, "pad": pad}
        props.append({**own_properties(image), **own})
    return Raster(np.ma.array(data, mask=mask), props, pad).on_domain()


def mosaic(ev, at, product_id, bands, start, end, pad, resampler):
    resampling(at, resampler)
    own = {"product_id": product_id, "pad": padding(at, pad)}
    product, chosen = select(ev, at, product_id, start, end, pad=own["pad"])
    return painted(ev, at, product, [(product, image) for image in chosen], bands, own)


def from_image_ids(ev, at, ids, bands, pad, resampler):
    resampling(at, resampler)
    known = {image["id"]: (p, image) for _, p in ev.products.values() for image in p["scenes"]}
    chosen = []
    for image in id_list(at, ids):
        if image not in known:
            raise Fault("not_found", at, f"no image `{image}`")
        chosen.append(known[image])
    ids = {product["id"] for product, _ in chosen}
    own = {"product_id": ids.pop()} if len(ids) == 1 else {}
    return painted(ev, at, None, chosen, bands, {**own, "pad": padding(at, pad)})


def painted(ev, at, product, chosen, bands, props):
    """Images on one, each over those before it where it is valid, band by band."""
    expect(at, "bands", bands, str)
    wanted, pad = bands.split(), props["pad"]
    if product is not None:
        for name in wanted:
            if name not in product["bands"]:
                raise Fault("impossible", at, f"`{product['id']}` has no band `{name}`")
    shape = (len(wanted), ev.rows + 2 * pad, ev.cols + 2 * pad)
    data, mask = np.zeros(shape, np.float32), np.ones(shape, bool)
    for of_product, image in chosen:
        to, of = place(ev, image, pad)
        values, hidden = band_values(ev, at, of_product, image, wanted, of)
        data[to] = np.where(hidden, data[to], values)
        mask[to] &= hidden
    return Raster(np.ma.array(data, mask=mask), {**props, "bands": wanted}, pad)


# ---------------------------------------------------------------- images of a stack


def the_stack(at, value):
    if not isinstance(value, Raster) or not value.is_stack:
        kind = value.kind if isinstance(value, Raster) else type(value).__name__
        raise Fault("invalid_request", at, f"{kind}, no ImageStack")


def kept(stack, keep):
    data = np.ma.array(stack.data.data[keep], mask=np.ma.getmaskarray(stack.data)[keep])
    return Raster(data, [stack.props[i] for i in keep], stack.margin).on_domain()


def id_list(at, text):
    names = text
    if isinstance(text, str):
        try:
            names = json.loads(text)
        except ValueError:
            names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Fault("invalid_request", at, f"`ids`: `{text}` is not the JSON of a list of ids")
    return names


def filter_data(ev, at, stack, predicate):
    the_stack(at, stack)
    if isinstance(predicate, Function):

        def holds(own):
            return bool(properties.call(ev, at, predicate, own))
    else:
        holds = properties.predicate(at, predicate)
    return kept(stack, [i for i, own in enumerate(stack.props) if holds(own)])


def filter_by_id(ev, at, stack, ids):
    the_stack(at, stack)
    ids = id_list(at, ids)
    return kept(stack, [i for i, own in enumerate(stack.props) if own.get("id") in ids])


def index(ev, at, stack, i):
    the_stack(at, stack)
    expect(at, "i", i, int)
    n = len(stack.props)
    if not -n <= i < n:
        raise Fault("invalid_request", at, f"image {i} of {n}")
    data = np.ma.array(stack.data.data[i], mask=np.ma.getmaskarray(stack.data)[i])
    return Raster(data, dict(stack.props[i]), stack.margin)


def length(ev, at, stack):
    the_stack(at, stack)
    return Length(len(stack.props))


# ---------------------------------------------------------------- bands


def band_list(at, text):
    """The names in the JSON of `band_op`: a list, or a string to be split at spaces."""
    names = text
    if isinstance(text, str):
        try:
            names = json.loads(text)
        except ValueError:
            names = text
    if isinstance(names, str):
        names = names.split()
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise Fault("invalid_request", at, f"`bands`: `{text}` is not the JSON of a list of names")
    return names


def with_bands(props, names):
    if isinstance(props, dict):
        return {**props, "bands": names}
    return [{**image, "bands": names} for image in props]


def pick_bands(ev, at, a, bands):
    raster(at, "a", a)
    names = band_list(at, bands)
    if a.is_stack and not a.props:
        return Raster(a.data[:, [0] * len(names)], [], a.margin)
    known = names_of(a.first_props())
    for name in names:
        if known is None or name not in known:
            raise Fault("impossible", at, f"no band `{name}` among {known}")
    order = [known.index(name) for name in names]
    return Raster(a.data[..., order, :, :], with_bands(a.props, names), a.margin)


def rename_bands(ev, at, a, bands):
    raster(at, "a", a)
    names = band_list(at, bands)
    if len(names) != a.band_count:
        raise Fault("impossible", at, f"{len(names)} names for {a.band_count} bands")
    return Raster(a.data, with_bands(a.props, names), a.margin)


def concat_bands(ev, at, a, other):
    raster(at, "a", a)
    raster(at, "other", other)
    if a.is_stack != other.is_stack:
        raise Fault("impossible", at, f"concat_bands of {a.kind} and {other.kind}")
    if a.is_stack and len(a.props) != len(other.props):
        counts = f"{len(a.props)} and {len(other.props)}"
        raise Fault("impossible", at, f"concat_bands of stacks of {counts} images")
    parts = [as_float(a.data), as_float(other.with_margin(a.margin).data)]
    data = np.concatenate([p.data for p in parts], axis=-3)
    mask = np.concatenate([np.ma.getmaskarray(p) for p in parts], axis=-3)

    def joined(first, second):
        p = names_of(first) or [str(i) for i in range(a.band_count)]
        q = names_of(second) or [str(i) for i in range(other.band_count)]
        result = {**first, "bands": [*p, *q]}
        product = second.get("product_id")
        if product and first.get("product_id") and product != first["product_id"]:
            result["other_product_ids"] = [*first.get("other_product_ids", []), product]
        return result

    if a.is_stack:
        props = [joined(p, q) for p, q in zip(a.props, other.props)]
    else:
        props = joined(a.props, other.props)
    return Raster(np.ma.array(data, mask=mask), props, a.margin)


def band_op(ev, at, a, operation, bands, other):
    if operation == "concat_bands":
        return concat_bands(ev, at, a, other)
    if operation not in ("pick_bands", "rename_bands"):
        raise Fault("invalid_request", at, f"`band_op` has no operation `{operation}`")
    return (pick_bands if operation == "pick_bands" else rename_bands)(ev, at, a, bands)


# ---------------------------------------------------------------- the grid

# WGS 84: semi-major axis in metres, squared first eccentricity.
AXIS = 6378137.0
ECCENTRICITY_2 = 6.69437999014e-3


def metres(ev, row):
    """Size of a pixel on the ground, east-west and north-south; `row` counts from the grid's upper edge."""
    grid = ev.world["grid"]
    res = grid["resolution"]
    res_x, res_y = res if isinstance(res, list) else (res, res)
    if not grid.get("geographic"):
        return res_x, res_y
    latitude = plain_math.radians(grid["upper_left"][1] - row * res_y)
    w = 1 - ECCENTRICITY_2 * plain_math.sin(latitude) ** 2
    prime_vertical = AXIS / plain_math.sqrt(w)
    meridian = AXIS * (1 - ECCENTRICITY_2) / w**1.5
    east = plain_math.radians(res_x) * prime_vertical * plain_math.cos(latitude)
    return east, plain_math.radians(res_y) * meridian


def resolution_x(ev, at):
    return metres(ev, ev.rows / 2)[0]


def resolution_y(ev, at):
    return metres(ev, ev.rows / 2)[1]


OPS = {
    "select_scenes": (
        select_scenes,
        (
            "product_id",
            "bands",
            "start_datetime",
            "end_datetime",
            "predicate_filter",
            "sort_by",
            "ascending",
            "pad",
        ),
        2,
    ),
    "stack_scenes": (stack_scenes, ("scenes", "bands", "pad", "resampler"), 2),
    "mosaic": (mosaic, ("product_id", "bands", "start_datetime", "end_datetime", "pad", "resampler"), 2),
    "from_image_ids": (from_image_ids, ("ids", "bands", "pad", "resampler"), 2),
    "filter_data": (filter_data, ("stack", "predicate"), 2),
    "filter_by_id": (filter_by_id, ("stack", "ids"), 2),
    "index": (index, ("stack", "i"), 2),
    "length": (length, ("stack",), 1),
    "pick_bands": (pick_bands, ("a", "bands"), 2),
    "rename_bands": (rename_bands, ("a", "bands"), 2),
    "concat_bands": (concat_bands, ("a", "other"), 2),
    "band_op": (band_op, ("a", "name", "bands", "other"), 2),
    "resolution_x": (resolution_x, (), 0),
    "resolution_y": (resolution_y, (), 0),
}

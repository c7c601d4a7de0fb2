"""The numpy oracle: a made-up world, a graft evaluator on numpy.ma, and the cases an engine must agree with.

    python make.py            rewrite the files beside this one
    python make.py --check    compare them with what would be written; exit 1 where they differ

The evaluator recurses over the graft and holds whole arrays: it is meant to be read, not to be fast. It
shares no code with the engine. True in a mask means invalid; data under the mask of a result is never
compared.

world.json     the grid, and per product its scenes: a window of the grid each, properties
world.npz      `<product index>_<scene id>_data` float32 and `_mask` bool, (bands, rows, cols)
cases.json     graft, kind, dtype, bands, properties (`ignore`: property names not to compare) and `ulps`, the
               distance allowed between valid float32 values (0: equal, or both NaN; -0 equals 0)
expected.npz   `<case>_data` float32 or bool, `<case>_mask` bool: (b, r, c) of a mosaic, (n, b, r, c) of a
               stack
errors.json    graft, error class, words of the message, JSON pointer of the place (null: any)
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SEED = 20240105
ROWS, COLS = 37, 53
# What lies under a mask of the world: visible at once if it leaks into a result.
UNDER_MASK = 7777.0
CLIENT_HASH = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


# ---------------------------------------------------------------- the world


def scene(product, name, acquired, window, bands, properties):
    row, col, rows, cols = window
    return {
        "id": name,
        "product": product,
        "acquired": acquired,
        "row": row,
        "col": col,
        "rows": rows,
        "cols": cols,
        "bands": bands,
        "properties": properties,
    }


def make_world():
    """Returns the description of the world, and its arrays by name."""
    up, one = "made:up", "made:one"
    abcq = ["a", "b", "c", "q"]

    def own(cloud, satellite, tags, view):
        return {"cloud_fraction": cloud, "satellite_id": satellite, "tags": tags, "view_angle": view}

    scenes = [
        scene(up, "s1", "2024-03-01T10:00:00Z", (0, 0, 20, 30), abcq, own(0.25, "A", ["x"], 1.5)),
        scene(up, "s2", "2024-08-15T23:59:59Z", (5, 10, 32, 43), abcq, own(0.0, "B", [], None)),
        scene(up, "s3", "2024-01-05T10:00:00Z", (0, 20, 37, 33), abcq, own(0.5, "A", ["x", "y"], -3.0)),
        scene(up, "s4", "2024-11-30T00:00:00Z", (12, 0, 15, 53), abcq, own(0.125, "B", [], 0.0)),
        scene(up, "s5", "2024-05-20T09:30:15Z", (8, 16, 8, 20), abcq, own(1.0, "A", [], 12.25)),
    ]
    lone = [scene(one, "o1", "2024-04-10T12:00:00Z", (3, 4, 30, 44), ["a", "n"], own(0.75, "C", [], 2.0))]
    grid = {
        "epsg": 32633,
        "upper_left": [500000.0, 5000000.0],
        "resolution": 10.0,
        "rows": ROWS,
        "cols": COLS,
    }
    world = {
        "grid": grid,
        "products": [
            {"id": up, "bands": abcq, "scenes": scenes},
            {"id": one, "bands": ["a", "n"], "scenes": lone},
        ],
    }

    rng = np.random.default_rng(SEED)
    common = np.array(
        [-8, -2.5, -1, -0.5, 0, 0, 0.1, 0.25, 1 / 3, 0.5, 1, 1, 2, 2.5, 3, 7, 10, 100], dtype=np.float32
    )
    rare = np.array([1e30, -1e30, 3e20, 1e-30, -1e-30, 1e-40, 16777216, 1234.567], dtype=np.float32)
    arrays = {}
    for index, product in enumerate(world["products"]):
        for item in product["scenes"]:
            shape = (item["rows"], item["cols"])
            data, mask = [], []
            for band in item["bands"]:
                if band == "q":
                    values = rng.integers(0, 5, shape).astype(np.float32)
                else:
                    values = rng.choice(common, shape)
                    values = np.where(rng.random(shape) < 0.06, rng.choice(rare, shape), values)
                    if band == "b":  # so that a - b == 0 happens often
                        values = np.where(rng.random(shape) < 0.3, data[0], values)
                data.append(values)
                hidden = rng.random(shape) < 0.12
                mask.append(
                    np.full(shape, item["id"] == "s4") if band == "a" and item["id"] == "s4" else hidden
                )
            mask = np.stack(mask)
            data = np.where(mask, np.float32(UNDER_MASK), np.stack(data)).astype(np.float32)
            arrays[f"{index}_{item['id']}_data"] = data
            arrays[f"{index}_{item['id']}_mask"] = mask
    return world, arrays


# ---------------------------------------------------------------- values


class Fault(Exception):
    """A graft that cannot be evaluated: the class, the place, the reason."""

    def __init__(self, kind, at, message):
        super().__init__(message)
        self.kind, self.at, self.message = kind, at, message


@dataclass
class Raster:
    """A Mosaic (3 axes, props a dict) or an ImageStack (4 axes, props a list)."""

    data: np.ma.MaskedArray
    props: dict | list

    @property
    def is_stack(self):
        return self.data.ndim == 4

    @property
    def band_count(self):
        return self.data.shape[-3]

    @property
    def kind(self):
        return "ImageStack" if self.is_stack else "Mosaic"

    def first_props(self):
        """The dict that speaks for the whole: of a stack, its first image's."""
        if isinstance(self.props, dict):
            return self.props
        return self.props[0] if self.props else {}


@dataclass
class Scenes:
    """What `select_scenes` gives: images, not yet pixels."""

    product: dict
    images: list


@dataclass
class Builtin:
    name: str


@dataclass
class Function:
    body: dict
    parent: Scope
    at: str


@dataclass
class Scope:
    """One activation of a function body."""

    body: dict
    parent: Scope | None
    at: str
    bound: dict = field(default_factory=dict)
    memo: dict = field(default_factory=dict)
    running: set = field(default_factory=set)


RESERVED = ("returns", "parameters")


def is_number(value):
    return isinstance(value, (bool, int, float))


def step(at, key):
    return f"{at}/{str(key).replace('~', '~0').replace('/', '~1')}"


# ---------------------------------------------------------------- syntax


def check_body(body, at):
    """The JSON shape of a function body, reachable or not."""

    def bad(where, message):
        raise Fault("invalid_request", where, message)

    if not isinstance(body, dict):
        bad(at, "a graft must be an object")
    if "returns" not in body:
        bad(at, "the body lacks `returns`")
    if not isinstance(body["returns"], str):
        bad(step(at, "returns"), "`returns` must be the name of a key")
    names = body.get("parameters", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        bad(step(at, "parameters"), "`parameters` must be a list of names")
    if len(set(names)) != len(names):
        bad(step(at, "parameters"), "`parameters` repeats a name")
    for key, value in body.items():
        where = step(at, key)
        if key in RESERVED:
            continue
        if isinstance(value, dict):
            check_body(value, where)
        elif isinstance(value, list):
            if not value:
                bad(where, "an application is empty")
            if len(value) == 1 and isinstance(value[0], (list, dict)):
                continue
            named = value[-1] if isinstance(value[-1], dict) else {}
            if not all(isinstance(name, str) for name in named.values()):
                bad(where, "named arguments must be keys")
            plain = value[:-1] if isinstance(value[-1], dict) else value
            if not all(isinstance(name, str) for name in plain):
                bad(where, "an application holds something that is not a key")


# ---------------------------------------------------------------- arithmetic

OPERATIONS = {
    "add": "sum",
    "sub": "sub",
    "mul": "mul",
    "truediv": "div",
    "floordiv": "floordiv",
    "_pow": "exp",
    "eq": "cmp",
    "ne": "cmp",
    "gt": "cmp",
    "ge": "cmp",
    "lt": "cmp",
    "le": "cmp",
    "_and": "and",
    "_or": "or",
}
REFLECTED = {
    "radd": "add",
    "rsub": "sub",
    "rmul": "mul",
    "rtruediv": "truediv",
    "rfloordiv": "floordiv",
    "rpow": "_pow",
    "rand": "_and",
    "ror": "_or",
}
UNARY = ("_abs", "neg", "invert")
LATER_MATH = ("gradient_x", "gradient_y", "arctan2")
COMPARISONS = {
    "eq": np.ma.equal,
    "ne": np.ma.not_equal,
    "gt": np.ma.greater,
    "ge": np.ma.greater_equal,
    "lt": np.ma.less,
    "le": np.ma.less_equal,
}


def as_float(x):
    return np.ma.array(x.data.astype(np.float32), mask=np.ma.getmaskarray(x))


def power(x, y):
    """np.ma.power, computed in float64 and rounded once, so that no libm decides the last bit."""
    wide = np.ma.power(as_float(x).astype(np.float64), as_float(y).astype(np.float64))
    data, mask = wide.data.astype(np.float32), np.ma.getmaskarray(wide)
    return np.ma.array(data, mask=mask | ~np.isfinite(data))


def binary_arrays(name, x, y, at):
    """Two masked arrays of one shape, float32 or bool each."""
    both_bool = x.dtype == bool and y.dtype == bool
    if name in ("_and", "_or"):
        if not both_bool:
            raise Fault("impossible", at, f"`{name}` needs bool operands")
        return (np.ma.logical_and if name == "_and" else np.ma.logical_or)(x, y)
    if name in COMPARISONS:
        return COMPARISONS[name](as_float(x), as_float(y))
    if both_bool and name == "sub":
        raise Fault("impossible", at, "`sub` of bool and bool")
    if both_bool and name in ("add", "mul"):
        return (np.ma.add if name == "add" else np.ma.multiply)(x, y)
    x, y = as_float(x), as_float(y)
    if name == "_pow":
        return power(x, y)
    return {
        "add": np.ma.add,
        "sub": np.ma.subtract,
        "mul": np.ma.multiply,
        "truediv": np.ma.true_divide,
        "floordiv": np.ma.floor_divide,
    }[name](x, y)


def binary_numbers(name, x, y, at):
    """Two Python numbers: float64 all the way, rounded only when the result meets a raster."""
    if name in ("_and", "_or"):
        if not (isinstance(x, bool) and isinstance(y, bool)):
            raise Fault("impossible", at, f"`{name}` needs bool operands")
        return (x and y) if name == "_and" else (x or y)
    if name in COMPARISONS:
        return bool(COMPARISONS[name](x, y))
    x, y = np.float64(x), np.float64(y)
    value = {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "truediv": np.true_divide,
        "floordiv": np.floor_divide,
        "_pow": np.power,
    }[name](x, y)
    if not np.isfinite(value):
        raise AssertionError(f"{at}: no case may depend on {x} {name} {y}")
    return float(value)


def unary(name, x, at):
    if is_number(x):
        return {"_abs": np.abs, "neg": np.negative}[name](np.float64(x)).item()
    if name == "invert":
        if x.data.dtype != bool:
            raise Fault("impossible", at, "`invert` needs a bool operand")
        return Raster(np.ma.logical_not(x.data), x.props)
    if name == "neg" and x.data.dtype == bool:
        raise Fault("impossible", at, "`neg` of bool")
    return Raster({"_abs": np.ma.absolute, "neg": np.ma.negative}[name](x.data), x.props)


def spread(x, shape):
    """`x` repeated to `shape`, mask included; numbers become float32, Python bools stay bool."""
    if isinstance(x, Raster):
        data, mask = x.data.data, np.ma.getmaskarray(x.data)
    else:
        data, mask = np.asarray(x, dtype=bool if isinstance(x, bool) else np.float32), np.False_
    return np.ma.array(np.broadcast_to(data, shape).copy(), mask=np.broadcast_to(mask, shape).copy())


def names_of(props):
    return props.get("bands") or None


def binary_bands(operation, x, y):
    if x is None or y is None:
        return x if y is None else y
    if x == y:
        return x
    if len(x) == len(y) > 1:
        return [f"{p}_{operation}_{q}" for p, q in zip(x, y)]
    return y if len(x) == 1 else x


# ---------------------------------------------------------------- the evaluator

SIGNATURES = {
    "select_scenes": (
        2,
        ("start_datetime", "end_datetime", "predicate_filter", "sort_by", "ascending", "pad"),
    ),
    "stack_scenes": (2, ("pad", "resampler")),
    "mosaic": (2, ("start_datetime", "end_datetime", "pad", "resampler")),
    "from_image_ids": (2, ("pad", "resampler")),
    "math": (3, ()),
    "mask": (2, ()),
    "band_op": (4, ()),
    "reduction": (4, ()),
}
LATER_OPS = (
    "filter_data",
    "filter_by_id",
    "groupby_data",
    "functional",
    "clip",
    "filled",
    "index",
    "length",
    "resolution_x",
    "resolution_y",
    "dot",
    "array",
    "code",
)
REDUCERS = ("min", "max", "mean", "median")
LATER_REDUCERS = ("sum", "std", "argmax", "argmin")


class Evaluator:
    """Evaluates grafts in a world. `keep_product`: does binary math of a product with itself keep it?"""

    def __init__(self, world, arrays, keep_product):
        self.products = {p["id"]: (i, p) for i, p in enumerate(world["products"])}
        self.arrays = arrays
        self.keep_product = keep_product

    def run(self, graft):
        check_body(graft, "")
        with np.errstate(all="ignore"):
            return self.returned(Scope(graft, None, ""))

    # language

    def returned(self, scope):
        return self.lookup(scope.body["returns"], scope, step(scope.at, "returns"))

    def lookup(self, name, scope, at):
        if name not in RESERVED:
            here = scope
            while here is not None:
                if name in here.bound:
                    return here.bound[name]
                if name in here.body:
                    return self.force(name, here)
                here = here.parent
            if name in SIGNATURES or name in LATER_OPS:
                return Builtin(name)
        raise Fault("invalid_request", at, f"unknown name `{name}`")

    def force(self, name, scope):
        if name not in scope.memo:
            at = step(scope.at, name)
            if name in scope.running:
                raise Fault("invalid_request", at, f"`{name}` needs itself: a cycle")
            scope.running.add(name)
            scope.memo[name] = self.value(scope.body[name], scope, at)
            scope.running.discard(name)
        return scope.memo[name]

    def value(self, expression, scope, at):
        if isinstance(expression, dict):
            return Function(expression, scope, at)
        if not isinstance(expression, list):
            return expression
        if len(expression) == 1 and isinstance(expression[0], (list, dict)):
            return expression[0]
        named_keys = expression[-1] if isinstance(expression[-1], dict) else {}
        plain = expression[1:-1] if isinstance(expression[-1], dict) else expression[1:]
        called = self.lookup(expression[0], scope, at)
        if isinstance(called, Builtin) and called.name in LATER_OPS:
            raise Fault("unsupported", at, f"`{called.name}` is not supported yet")
        positional = [self.lookup(key, scope, step(at, i + 1)) for i, key in enumerate(plain)]
        named = {
            name: self.lookup(key, scope, step(step(at, len(plain) + 1), name))
            for name, key in named_keys.items()
        }
        if isinstance(called, Function):
            return self.apply(called, positional, named, at)
        if isinstance(called, Builtin):
            return self.builtin(called.name, positional, named, at)
        raise Fault("invalid_request", at, f"`{expression[0]}` is not a function")

    def apply(self, function, positional, named, at):
        parameters = function.body.get("parameters", [])
        if len(positional) > len(parameters):
            raise Fault("invalid_request", at, f"takes {len(parameters)} arguments, {len(positional)} given")
        bound = dict(zip(parameters, positional))
        for name, value in named.items():
            if name not in parameters:
                raise Fault("invalid_request", at, f"has no parameter `{name}`")
            if name in bound:
                raise Fault("invalid_request", at, f"parameter `{name}` is bound twice")
            bound[name] = value
        for name in parameters:
            if name not in bound:
                raise Fault("invalid_request", at, f"parameter `{name}` is not bound")
        return self.returned(Scope(function.body, function.parent, function.at, bound))

    def builtin(self, name, positional, named, at):
        count, names = SIGNATURES[name]
        named = {key: value for key, value in named.items() if key != "cache_id"}
        if len(positional) != count:
            message = f"`{name}` takes {count} positional arguments, {len(positional)} given"
            raise Fault("invalid_request", at, message)
        for key in named:
            if key not in names:
                raise Fault("invalid_request", at, f"`{name}` has no argument `{key}`")
        return getattr(self, f"op_{name}")(at, *positional, **named)

    # sources

    def op_select_scenes(
        self,
        at,
        product_id,
        bands,
        start_datetime=None,
        end_datetime=None,
        predicate_filter=None,
        sort_by=None,
        ascending=True,
        pad=0,
    ):
        expect(at, "product_id", product_id, str)
        expect(at, "bands", bands, str)
        expect(at, "ascending", ascending, bool)
        if pad != 0 or predicate_filter is not None:
            raise Fault(
                "unsupported", at, "`select_scenes` with `pad` or `predicate_filter` is not supported yet"
            )
        start = instant(at, "start_datetime", start_datetime)
        end = instant(at, "end_datetime", end_datetime)
        if product_id not in self.products:
            raise Fault("not_found", at, f"no product `{product_id}`")
        product = self.products[product_id][1]
        chosen = []
        for image in product["scenes"]:
            acquired = instant(at, "acquired", image["acquired"])
            if (start is None or start <= acquired) and (end is None or acquired < end):
                chosen.append(image)
        chosen.sort(key=lambda image: image["acquired"])
        if sort_by is not None:
            chosen.sort(
                key=lambda image: image[sort_by] if sort_by in image else image["properties"][sort_by]
            )
        if sort_by is not None and not ascending:
            chosen.reverse()
        return Scenes(product, chosen)

    def op_stack_scenes(self, at, scenes, bands, pad=0, resampler="near"):
        if not isinstance(scenes, Scenes):
            raise Fault("invalid_request", at, "`scenes` must come from `select_scenes`")
        expect(at, "bands", bands, str)
        wanted = bands.split()
        index, product = self.products[scenes.product["id"]]
        for name in wanted:
            if name not in product["bands"]:
                raise Fault("impossible", at, f"`{product['id']}` has no band `{name}`")
        shape = (len(scenes.images), len(wanted), ROWS, COLS)
        data, mask, props = np.zeros(shape, np.float32), np.ones(shape, bool), []
        for i, image in enumerate(scenes.images):
            order = [image["bands"].index(name) for name in wanted]
            window = (
                i,
                slice(None),
                slice(image["row"], image["row"] + image["rows"]),
                slice(image["col"], image["col"] + image["cols"]),
            )
            data[window] = self.arrays[f"{index}_{image['id']}_data"][order]
            mask[window] = self.arrays[f"{index}_{image['id']}_mask"][order]
            own = {"id": image["id"], "acquired": image["acquired"], "product_id": product["id"]}
            props.append({**image["properties"], **own, "bands": wanted, "pad": 0})
        return Raster(np.ma.array(data, mask=mask), props)

    def op_mosaic(
        self, at, product_id, bands, start_datetime=None, end_datetime=None, pad=0, resampler="near"
    ):
        scenes = self.op_select_scenes(at, product_id, bands, start_datetime, end_datetime)
        own = {"product_id": product_id, "pad": pad}
        return self.painted(at, [(scenes.product, image) for image in scenes.images], bands, own)

    def op_from_image_ids(self, at, ids, bands, pad=0, resampler="near"):
        known = {image["id"]: (p, image) for _, p in self.products.values() for image in p["scenes"]}
        chosen = []
        for image in json.loads(ids):
            if image not in known:
                raise Fault("not_found", at, f"no image `{image}`")
            chosen.append(known[image])
        products = {product["id"] for product, _ in chosen}
        own = {"product_id": products.pop(), "pad": pad} if len(products) == 1 else {"pad": pad}
        return self.painted(at, chosen, bands, own)

    def painted(self, at, chosen, bands, props):
        """Images on one, each over those before it where it is valid, band by band."""
        expect(at, "bands", bands, str)
        wanted = bands.split()
        shape = (len(wanted), ROWS, COLS)
        data, mask = np.zeros(shape, np.float32), np.ones(shape, bool)
        for product, image in chosen:
            for name in wanted:
                if name not in product["bands"]:
                    raise Fault("impossible", at, f"`{product['id']}` has no band `{name}`")
            index = self.products[product["id"]][0]
            order = [image["bands"].index(name) for name in wanted]
            window = (
                slice(None),
                slice(image["row"], image["row"] + image["rows"]),
                slice(image["col"], image["col"] + image["cols"]),
            )
            hidden = self.arrays[f"{index}_{image['id']}_mask"][order]
            data[window] = np.where(hidden, data[window], self.arrays[f"{index}_{image['id']}_data"][order])
            mask[window] &= hidden
        return Raster(np.ma.array(data, mask=mask), {**props, "bands": wanted})

    # math

    def op_math(self, at, name, a, b):
        expect(at, "name", name, str)
        if name in LATER_MATH:
            raise Fault("unsupported", at, f"`math` `{name}` is not supported yet")
        if name not in OPERATIONS and name not in REFLECTED and name not in UNARY:
            raise Fault("invalid_request", at, f"`math` has no operation `{name}`")
        if name in UNARY:
            if b is not None:
                raise Fault("invalid_request", at, f"`{name}` takes null as its second operand")
            operand(at, a)
            return unary(name, a, at)
        operand(at, a)
        operand(at, b)
        plain = REFLECTED.get(name, name)
        x, y = (b, a) if name in REFLECTED else (a, b)
        rasters = [v for v in (a, b) if isinstance(v, Raster)]
        if not rasters:
            return binary_numbers(plain, x, y, at)
        if len(rasters) == 2:
            check_shapes(at, a, b)
        shape = np.broadcast_shapes(*(raster.data.shape for raster in rasters))
        result = binary_arrays(plain, spread(x, shape), spread(y, shape), at)
        return Raster(result, self.binary_props(OPERATIONS[plain], a, b, shape))

    def binary_props(self, operation, a, b, shape):
        first = a.first_props() if isinstance(a, Raster) else {}
        second = b.first_props() if isinstance(b, Raster) else {}
        common = {"pad": first.get("pad") or second.get("pad") or 0}
        bands = binary_bands(operation, names_of(first), names_of(second))
        if bands is not None:
            common["bands"] = bands
        product, other = first.get("product_id") or None, second.get("product_id") or None
        differs = product is not None and other is not None and product != other
        dropped = product is not None and product == other and not self.keep_product
        if product is not None or other is not None:
            common["product_id"] = product if product is not None else other

        def finish(start, is_image):
            result = {**start, **common}
            if dropped:
                del result["product_id"]
            if differs and is_image:
                result["other_product_id"] = other
            elif differs:
                result["other_product_ids"] = [*start.get("other_product_ids", []), other]
            return result

        lists = [v.props for v in (a, b) if isinstance(v, Raster) and v.is_stack]
        if lists:
            # Two stacks: the first operand's list, unless it is one image spread over the second's.
            fitting = [images for images in lists if len(images) == shape[0]]
            return [finish(image, True) for image in fitting[0]]
        return finish(a.props if isinstance(a, Raster) else {}, False)

    # mask, bands, reductions

    def op_mask(self, at, data, mask):
        raster(at, "data", data)
        raster(at, "mask", mask)
        if mask.data.dtype != bool:
            raise Fault("impossible", at, "the mask must be bool, not float32")
        if mask.is_stack and not data.is_stack:
            raise Fault("impossible", at, "an ImageStack cannot mask a Mosaic")
        if mask.band_count not in (1, data.band_count):
            raise Fault("impossible", at, f"a mask of {mask.band_count} bands on {data.band_count} bands")
        if mask.is_stack and mask.data.shape[0] != data.data.shape[0]:
            raise Fault("impossible", at, "mask and data differ in their number of images")
        hides = np.broadcast_to(mask.data.filled(True), data.data.shape)
        return Raster(np.ma.array(data.data.data, mask=np.ma.getmaskarray(data.data) | hides), data.props)

    def op_band_op(self, at, a, operation, bands, other):
        raster(at, "a", a)
        if operation == "concat_bands":
            raster(at, "other", other)
            return concat(at, a, other)
        if operation not in ("pick_bands", "rename_bands"):
            raise Fault("invalid_request", at, f"`band_op` has no operation `{operation}`")
        expect(at, "bands", bands, str)
        names = band_list(at, bands)
        if operation == "rename_bands":
            if len(names) != a.band_count:
                raise Fault("impossible", at, f"{len(names)} names for {a.band_count} bands")
            return Raster(a.data, with_bands(a.props, names))
        if a.is_stack and not a.props:
            return Raster(a.data[:, [0] * len(names)], [])
        known = names_of(a.first_props())
        for name in names:
            if known is None or name not in known:
                raise Fault("impossible", at, f"no band `{name}` among {known}")
        order = [known.index(name) for name in names]
        return Raster(a.data[..., order, :, :], with_bands(a.props, names))

    def op_reduction(self, at, a, reducer, axis, kind):
        raster(at, "a", a)
        expect(at, "reducer", reducer, str)
        expect(at, "axis", axis, str)
        if axis not in ("images", "bands", "pixels"):
            raise Fault("invalid_request", at, f"no axis `{axis}`")
        if reducer in LATER_REDUCERS:
            raise Fault("unsupported", at, f"`reduction` `{reducer}` is not supported yet")
        if reducer not in REDUCERS:
            raise Fault("invalid_request", at, f"no reducer `{reducer}`")
        if axis != "images":
            raise Fault("unsupported", at, f"`reduction` over `{axis}` is not supported yet")
        if kind not in ("Mosaic", "ImageStack"):
            raise Fault("invalid_request", at, f"no kind `{kind}`")
        if kind != a.kind:
            raise Fault("impossible", at, f"kind `{kind}` does not match the {a.kind} given")
        if not a.is_stack:
            raise Fault("impossible", at, "a Mosaic has no axis `images`")
        if not a.props:
            props = {}
        else:
            first = a.first_props()
            props = {"bands": first.get("bands", []), "pad": first.get("pad", 0)}
            props["product_id"] = first.get("product_id", "")
        return Raster(reduce_images(a.data, reducer), props)


def expect(at, name, value, kind):
    if not isinstance(value, kind):
        raise Fault("invalid_request", at, f"`{name}` must be a {kind.__name__}")


def raster(at, name, value):
    if not isinstance(value, Raster):
        raise Fault("invalid_request", at, f"`{name}` must be a Mosaic or an ImageStack")


def operand(at, value):
    if not (isinstance(value, Raster) or is_number(value)):
        raise Fault("invalid_request", at, "an operand of `math` must be a raster or a number")


def instant(at, name, text):
    """The UTC time of a date as Python's isoformat prints it; without an offset it is UTC already."""
    if text is None:
        return None
    expect(at, name, text, str)
    try:
        moment = datetime.fromisoformat(text.removesuffix("Z"))
    except ValueError:
        raise Fault("invalid_request", at, f"`{name}`: `{text}` is no date and no parameter") from None
    return moment.replace(tzinfo=None) - (moment.utcoffset() or timedelta(0))


def check_shapes(at, a, b):
    if a.band_count != b.band_count and 1 not in (a.band_count, b.band_count):
        raise Fault("impossible", at, f"the operands have {a.band_count} and {b.band_count} bands")
    if a.is_stack and b.is_stack:
        n, m = len(a.props), len(b.props)
        if n != m and 1 not in (n, m):
            raise Fault("impossible", at, f"the operands have {n} and {m} images")


def band_list(at, text):
    """The names in the JSON of `band_op`: a list, or a string to be split at spaces."""
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if isinstance(names, str):
        names = names.split()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Fault("invalid_request", at, f"`bands`: `{text}` is not the JSON of a list of names")
    return names


def with_bands(props, names):
    if isinstance(props, dict):
        return {**props, "bands": names}
    return [{**image, "bands": names} for image in props]


def concat(at, a, other):
    if a.is_stack != other.is_stack:
        raise Fault("impossible", at, f"concat_bands of {a.kind} and {other.kind}")
    if a.is_stack and len(a.props) != len(other.props):
        counts = f"{len(a.props)} and {len(other.props)}"
        raise Fault("impossible", at, f"concat_bands of stacks of {counts} images")
    parts = [as_float(a.data), as_float(other.data)]
    data = np.ma.concatenate(parts, axis=-3)
    data = np.ma.array(data.data, mask=np.concatenate([np.ma.getmaskarray(p) for p in parts], axis=-3))

    def joined(first, second):
        p = names_of(first) or [str(i) for i in range(a.band_count)]
        q = names_of(second) or [str(i) for i in range(other.band_count)]
        result = {**first, "bands": [*p, *q]}
        product = second.get("product_id")
        if product and first.get("product_id") and product != first["product_id"]:
            result["other_product_ids"] = [*first.get("other_product_ids", []), product]
        return result

    if a.is_stack:
        return Raster(data, [joined(p, q) for p, q in zip(a.props, other.props)])
    return Raster(data, joined(a.props, other.props))


def reduce_images(stack, reducer):
    """Over axis 0, valid entries only; nothing valid: masked."""
    valid = ~np.ma.getmaskarray(stack)
    count = valid.sum(axis=0)
    empty = count == 0
    data = stack.data
    if reducer in ("min", "max"):
        if data.dtype == bool:
            seen = (data & valid).any(axis=0) if reducer == "max" else (data | ~valid).all(axis=0)
            return np.ma.array(seen, mask=empty)
        neutral = np.float32(-np.inf if reducer == "max" else np.inf)
        # np.maximum and np.minimum propagate NaN.
        fold = (np.maximum if reducer == "max" else np.minimum).reduce
        best = fold(np.where(valid, data, neutral), axis=0, initial=neutral)
        return np.ma.array(best.astype(np.float32), mask=empty)
    if reducer == "mean":
        total = np.zeros(data.shape[1:], np.float64)
        for image, ok in zip(data, valid):
            total = np.where(ok, total + image.astype(np.float64), total)
        # This division masks what is not finite, as numpy.ma's mean does.
        mean = np.ma.true_divide(np.ma.array(total, mask=empty), count.astype(np.float64))
        return np.ma.array(mean.data.astype(np.float32), mask=np.ma.getmaskarray(mean))
    # Median. Masked entries sort behind the valid ones; a valid NaN decides by itself.
    floats = data.astype(np.float32)
    has_nan = (np.isnan(floats) & valid).any(axis=0)
    order = np.sort(np.where(valid, floats, np.float32(np.inf)), axis=0)
    if not len(order):
        return np.ma.array(np.zeros(data.shape[1:], np.float32), mask=True)
    middle = np.maximum(count - 1, 0) // 2, count // 2
    low, high = (np.take_along_axis(order, np.minimum(m, len(order) - 1)[None], axis=0)[0] for m in middle)
    even = (low + high) / np.float32(2)
    median = np.where(has_nan, np.float32(np.nan), np.where(count % 2 == 0, even, high))
    return np.ma.array(median.astype(np.float32), mask=empty)


# ---------------------------------------------------------------- writing grafts


class Key(str):
    """The name of a key, where a plain string would become a string literal."""


class Builder:
    """Grafts from nested tuples: `(op, argument, ..., {name: argument})`. Equal expressions share a key."""

    def __init__(self, first=0, stride=1, cache_ids=False):
        self.next, self.stride, self.cache_ids = first, stride, cache_ids
        self.graft, self.known = {}, {}

    def expression(self, node):
        if not isinstance(node, tuple):
            return node
        op, *rest = node
        named = rest.pop() if rest and isinstance(rest[-1], dict) else {}
        if self.cache_ids:
            named = {**named, "cache_id": CLIENT_HASH}
        keys = [self.key(argument) for argument in rest]
        result = [str(op), *keys]
        if named:
            result.append({name: self.key(argument) for name, argument in named.items()})
        return result

    def key(self, node):
        if isinstance(node, Key):
            return str(node)
        expression = self.expression(node)
        text = json.dumps(expression)
        if text not in self.known:
            self.known[text] = str(self.next)
            self.next += self.stride
            self.graft[self.known[text]] = expression
        return self.known[text]


def graft_of(node, **options):
    builder = Builder(**options)
    returns = builder.key(node)
    return {"returns": returns, **builder.graft}


def written(body, **named):
    """A graft written by hand, with further keys built from tuples."""
    builder = Builder(first=1000)
    extra = {name: builder.expression(node) for name, node in named.items()}
    return {**body, **extra, **builder.graft}


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
    return ("stack_scenes", source, bands, {"pad": 0, "resampler": "near"})


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


def mosaic(bands, start="2024-01-01T00:00:00", end="2025-01-01T00:00:00", product="made:up"):
    dates = {"start_datetime": start, "end_datetime": end, "pad": 0, "resampler": "near"}
    return ("mosaic", product, bands, dates)


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


# ---------------------------------------------------------------- the cases


def expression_cases():
    """Cases as name and expression."""
    a, b, ab = one("a"), one("b"), one("a b")
    ma, mb, mab, mabc = flat("a"), flat("b"), flat("a b"), flat("a b c")
    hi_a, hi_b, hi_ab = above(a, 0.25), above(b, 1), above(ab, 1)
    cases = {}

    # sources
    cases["source_all_bands"] = stack("a b c q")
    cases["source_band_order"] = stack("q b", end="2024-04-01")
    cases["source_end_excluded"] = stack("q", end="2024-03-01T10:00:00")
    cases["source_end_just_after"] = stack("q", end="2024-03-01T10:00:00.000001")
    cases["source_start_included"] = stack("q", start="2024-08-15T23:59:59")
    cases["source_start_just_after"] = stack("q", start="2024-08-15T23:59:59.000001")
    cases["source_end_offset"] = stack("q", end="2024-03-01T12:00:00+02:00")
    cases["source_start_offset"] = stack("q", start="2024-11-29T19:00:00-05:00")
    cases["source_date_only"] = stack("q", start="2024-01-05", end="2024-11-30")
    cases["source_unbounded"] = stack("q", start=None, end=None)
    cases["source_empty"] = none("a b")
    cases["source_empty_range"] = stack("a", start="2024-03-01T10:00:00", end="2024-03-01T10:00:00")
    cases["source_sort_by_acquired_descending"] = stack("q", sort_by="acquired", ascending=False)
    cases["source_descending"] = stack("q", ascending=False)
    cases["source_sort_by_cloud"] = stack("q", sort_by="cloud_fraction")
    cases["source_sort_by_id_descending"] = stack("q", sort_by="id", ascending=False)
    cases["source_other_product"] = other("n a")

    # arithmetic with numbers, both orders
    for name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "floordiv", "rfloordiv"):
        cases[f"{name}_number"] = math(name, ab, 2.5)
    cases["sub_number_first"] = math("sub", 2.5, ab)
    cases["rsub_number_first"] = math("rsub", 2.5, ab)
    cases["truediv_number_first"] = math("truediv", 1, ab)
    cases["pow_number_first"] = math("_pow", 2, a)
    cases["number_rounds_to_float32"] = math("eq", ab, 0.1)
    cases["truediv_zero"] = math("truediv", ab, 0)
    cases["rtruediv_zero"] = math("rtruediv", ab, 0)
    cases["floordiv_zero"] = math("floordiv", ab, 0)
    cases["rfloordiv_zero"] = math("rfloordiv", ab, 0)
    cases["truediv_overflow_masked"] = math("truediv", ab, 1e-30)
    cases["floordiv_tenth"] = math("floordiv", ab, 0.1)
    cases["floordiv_negative"] = math("floordiv", ab, -0.75)
    cases["pow_two"] = math("_pow", ab, 2)
    cases["pow_minus_one"] = math("_pow", ab, -1)
    cases["pow_half"] = math("_pow", ab, 0.5)
    cases["pow_zero"] = math("_pow", ab, 0)
    cases["pow_three"] = math("_pow", ab, 3)
    cases["pow_third"] = math("_pow", ab, 1 / 3)
    cases["rpow_two"] = math("rpow", ab, 2)
    cases["rpow_zero"] = math("rpow", ab, 0)
    cases["rpow_negative"] = math("rpow", ab, -2)
    cases["neg"] = math("neg", mab)
    cases["abs"] = math("_abs", ab)
    cases["mul_overflow_inf"] = math("mul", ab, 1e30)
    big = math("mul", ab, 3e8)
    cases["add_overflow_inf"] = math("add", big, big)
    huge = math("mul", ab, 1e30)
    cases["inf_minus_inf"] = math("sub", huge, huge)
    cases["nan_compared"] = math("ne", math("sub", huge, huge), 0)
    cases["nan_divided_masked"] = math("truediv", math("sub", huge, huge), 2)
    cases["inf_divided_masked"] = math("truediv", huge, 2)
    cases["number_over_inf"] = math("truediv", 1, huge)
    cases["nan_pow_zero"] = math("_pow", math("sub", huge, huge), 0)

    # numbers with numbers
    cases["number_literal"] = 2.5
    cases["number_add"] = math("add", 2, 0.5)
    cases["number_rsub"] = math("rsub", 2, 7)
    cases["number_rtruediv"] = math("rtruediv", 4, 1)
    cases["number_floordiv"] = math("floordiv", -7, 2)
    cases["number_pow"] = math("_pow", 2, 10)
    cases["number_rpow"] = math("rpow", 2, 3)
    cases["number_neg_abs"] = math("_abs", math("neg", 3))
    cases["number_chain_keeps_double"] = math("mul", a, math("sub", math("add", 16777216, 1), 16777216))
    cases["number_division_feeds"] = math("sub", math("truediv", 1, 3), ab)
    cases["number_compare_feeds"] = math("_and", hi_a, math("lt", 1, 2))

    # mosaics
    cases["mosaic_all"] = mosaic("a b c")
    cases["mosaic_bands_in_any_order"] = mosaic("q a")
    cases["mosaic_of_two"] = mosaic("a b", end="2024-05-01T00:00:00")
    cases["mosaic_whose_top_has_no_valid_pixel"] = mosaic("a b", start="2024-08-01T00:00:00")
    cases["mosaic_of_none"] = mosaic("a b", start="2024-06-01T00:00:00", end="2024-06-02T00:00:00")
    cases["mosaic_unbounded"] = mosaic("b", start=None, end=None)
    cases["mosaic_picked"] = pick(mosaic("a b c"), "c", "a")
    cases["mosaic_with_a_stack"] = math("sub", three("a b"), mosaic("a b"))
    cases["mosaic_normalized_difference"] = math(
        "truediv", math("sub", mosaic("a"), mosaic("b")), math("add", mosaic("a"), mosaic("b"))
    )
    cases["ids_in_their_order"] = images("a b", "s2", "s1", "s5")
    cases["ids_in_another_order"] = images("a b", "s5", "s1", "s2")
    cases["ids_twice"] = images("a", "s1", "s2", "s1")
    cases["ids_of_two_products"] = images("a", "s1", "o1")
    cases["ids_none"] = images("a b")

    # rasters with rasters
    for name in ("add", "rsub", "mul", "truediv", "rtruediv", "floordiv", "rfloordiv", "_pow", "rpow"):
        cases[f"{name.strip('_')}_stacks"] = math(name, three("a"), three("b"))
    cases["normalized_difference"] = math("truediv", math("sub", a, b), math("add", a, b))
    cases["same_operand_twice"] = math("sub", ab, ab)
    cases["names_pairwise_mul"] = math("mul", ab, one("b c"))
    cases["names_pairwise_cmp"] = math("le", ab, one("c a"))
    cases["names_pairwise_exp"] = math("rpow", ab, one("b c"))
    cases["names_pairwise_floordiv"] = math("rfloordiv", mab, flat("b c"))
    cases["names_pairwise_or"] = math("_or", above(ab, 0), above(one("b c"), 0))
    cases["names_pairwise_nested"] = math(
        "truediv", math("sub", ab, one("b a")), math("radd", ab, one("b a"))
    )
    cases["one_band_with_many"] = math("sub", a, one("a b c"))
    cases["many_bands_with_one"] = math("sub", mabc, ma)
    cases["one_image_with_many"] = math("sub", a, three("a"))
    cases["many_images_with_one"] = math("sub", three("a b"), ab)
    cases["stack_minus_mosaic"] = math("sub", three("a b"), mab)
    cases["mosaic_minus_stack"] = math("sub", mab, three("a b"))
    cases["one_band_mosaic_with_stack"] = math("mul", mb, two("a b"))
    cases["one_band_stack_with_mosaic"] = math("rsub", two("a"), flat("b c"))
    cases["empty_plus_number"] = math("add", none("a b"), 1)
    cases["empty_plus_mosaic"] = math("add", none("a b"), mab)
    cases["empty_plus_one_image"] = math("add", none("a b"), ab)
    cases["empty_plus_empty"] = math("truediv", none("a"), none("b c"))
    cases["products_differ_mosaics"] = math("sub", ma, over_images(other("n")))
    cases["products_differ_stacks"] = math("add", a, other("a"))
    cases["products_differ_stack_mosaic"] = math("sub", two("a"), over_images(other("n"), "min"))
    cases["products_differ_mosaic_stack"] = math("sub", over_images(other("n"), "min"), two("a"))

    # comparisons and logic
    for name in ("eq", "ne", "gt", "ge", "lt", "le"):
        cases[f"{name}_bands"] = math(name, a, b)
    cases["eq_number_first"] = math("eq", 1, ab)
    cases["lt_number_first"] = math("lt", 1, ab)
    cases["and_stacks"] = math("_and", hi_a, hi_b)
    cases["or_stacks"] = math("_or", hi_a, hi_b)
    cases["rand_stacks"] = math("rand", hi_a, hi_b)
    cases["ror_stacks"] = math("ror", hi_a, hi_b)
    cases["and_false"] = math("_and", hi_ab, False)
    cases["ror_true"] = math("ror", hi_ab, True)
    cases["invert"] = math("invert", hi_ab)
    cases["and_one_band_with_many"] = math("_and", hi_a, hi_ab)
    cases["logic_chain"] = math("_or", math("_and", hi_a, math("invert", hi_b)), above(one("q"), 3))

    # bool arithmetic
    cases["bool_add_bool"] = math("add", hi_a, hi_b)
    cases["bool_mul_bool"] = math("mul", hi_a, hi_b)
    cases["bool_add_true"] = math("add", hi_a, True)
    cases["bool_mul_false"] = math("rmul", hi_a, False)
    cases["bool_add_number"] = math("add", hi_a, 1)
    cases["bool_rsub_number"] = math("rsub", hi_ab, 1)
    cases["bool_mul_float"] = math("mul", hi_ab, ab)
    cases["float_sub_bool"] = math("sub", a, hi_b)
    cases["float_add_true"] = math("add", a, True)
    cases["bool_div_bool"] = math("truediv", hi_a, hi_b)
    cases["bool_floordiv_bool"] = math("floordiv", hi_a, hi_b)
    cases["bool_pow_bool"] = math("_pow", hi_a, hi_b)
    cases["bool_pow_minus_one"] = math("_pow", hi_a, -1)
    cases["bool_eq_bool"] = math("eq", hi_a, hi_b)
    cases["bool_gt_bool"] = math("gt", hi_a, hi_b)
    cases["bool_eq_number"] = math("eq", hi_a, 1)
    cases["bool_abs"] = math("_abs", hi_a)

    # mask
    cases["mask_stack_by_stack"] = ("mask", two("a b"), above(two("b c"), 1))
    cases["mask_stack_by_one_band_stack"] = ("mask", two("a b"), math("ge", two("q"), 3))
    cases["mask_stack_by_mosaic"] = ("mask", two("a b"), above(mab, 1))
    cases["mask_stack_by_one_band_mosaic"] = ("mask", two("a b"), math("eq", flat("q"), 4))
    cases["mask_mosaic_by_mosaic"] = ("mask", mab, above(flat("b c"), 7))
    cases["mask_mosaic_by_one_band_mosaic"] = ("mask", mabc, above(over_images(last("q")), 2))
    cases["mask_masked_entry_hides"] = ("mask", last("c"), above(last("a"), 1e35))
    cases["mask_inverted"] = ("mask", two("a"), math("invert", math("lt", two("q"), 2)))
    cases["mask_bool_data"] = ("mask", hi_ab, hi_a)
    cases["mask_twice"] = ("mask", ("mask", ab, hi_a), hi_b)
    cases["mask_empty"] = ("mask", none("a b"), above(none("q"), 2))
    cases["mask_other_product"] = ("mask", mab, above(over_images(other("n")), 0))
    cases["mask_then_median"] = over_images(("mask", stack("a b"), math("ge", stack("q"), 3)), "median")

    # bands
    cases["pick_one"] = pick(two("a b c"), "b")
    cases["pick_reorder"] = pick(two("a b c"), "c", "a")
    cases["pick_repeats"] = pick(mabc, "b", "a", "b")
    cases["pick_string"] = ("band_op", mabc, "pick_bands", '"c  a"', None)
    cases["pick_computed"] = pick(math("mul", ab, one("b c")), "b_mul_c")
    cases["pick_after_rename"] = pick(rename(mab, "x", "y"), "y")
    cases["pick_swapped_names"] = pick(rename(mab, "b", "a"), "a")
    cases["pick_empty"] = pick(none("a b c"), "b", "a")
    cases["rename_stack"] = rename(two("a b"), "x", "y")
    cases["rename_string"] = ("band_op", two("a b"), "rename_bands", '"x y"', None)
    cases["rename_lost_names"] = rename(over_images(none("a b")), "x", "y")
    cases["rename_empty"] = rename(none("a b"), "x", "y")
    cases["rename_bool"] = rename(math("gt", a, b), "more")
    cases["concat_mosaics"] = join(mab, flat("c"))
    cases["concat_stacks"] = join(two("b"), two("a q"))
    cases["concat_stacks_by_position"] = join(two("a"), last("c"))
    cases["concat_repeated_names"] = join(ma, mab)
    cases["concat_products_mosaics"] = join(ma, over_images(other("n a")))
    cases["concat_products_stacks"] = join(a, other("a n"))
    cases["concat_bool_float"] = join(hi_a, b)
    cases["concat_float_bool"] = join(mb, above(ma, 1))
    cases["concat_bool_bool"] = join(hi_a, hi_b)
    cases["concat_lost_names"] = join(over_images(none("a b")), flat("c"))
    cases["concat_empty"] = join(none("a"), none("b c"))

    # reductions
    finite = math("mul", stack("a b c"), 1)
    for reducer in REDUCERS:
        cases[f"reduce_{reducer}"] = over_images(finite, reducer)
        cases[f"reduce_{reducer}_even"] = over_images(two("a c"), reducer)
        cases[f"reduce_{reducer}_one_image"] = over_images(ab, reducer)
        cases[f"reduce_{reducer}_masked_band"] = over_images(stack("a", start="2024-11-01"), reducer)
        cases[f"reduce_{reducer}_bool"] = over_images(above(stack("a q"), 1), reducer)
        cases[f"reduce_{reducer}_empty"] = over_images(none("a b"), reducer)
        cases[f"reduce_{reducer}_inf"] = over_images(math("mul", stack("a b"), 1e30), reducer)
        wild = math("mul", stack("b"), 1e30)
        cases[f"reduce_{reducer}_nan"] = over_images(
            math("sub", wild, math("add", wild, stack("q"))), reducer
        )
    cases["reduce_mean_bool_even"] = over_images(above(two("a"), 0), "mean")
    cases["reduce_median_overflow"] = over_images(math("mul", math("mul", stack("a b"), 1e8), 3), "median")
    cases["reduce_mean_large"] = over_images(math("mul", math("mul", stack("a b"), 1e8), 3), "mean")
    cases["reduce_empty_bool"] = over_images(above(none("a"), 1), "max")
    cases["reduce_computed_names"] = over_images(math("truediv", two("a b"), two("b c")), "min")
    cases["reduce_renamed"] = over_images(rename(two("a b"), "x", "y"), "min")
    cases["reduce_descending_same"] = over_images(stack("a", sort_by="acquired", ascending=False), "min")
    cases["reduce_difference"] = math("sub", over_images(finite, "max"), over_images(finite, "min"))
    cases["stack_minus_own_median"] = math("sub", three("c"), over_images(three("c"), "median"))
    cases["empty_max_plus_number"] = math("add", over_images(none("a b")), 1)
    cases["empty_max_times_mosaic"] = math("mul", over_images(none("a b")), mab)
    return cases


def language_cases():
    """Cases as name and graft, where the form of the graft is the point."""
    source = three("a b")
    cases = {}
    add = ["math", "name", "m", "k"]
    cases["lang_definitions_after_use"] = written({"x": add, "name": "add", "k": 1, "returns": "x"}, m=source)
    cases["lang_string_is_a_literal"] = written(
        {"returns": "x", "name": "sub", "sub": "add", "k": 1, "x": add}, m=source
    )
    cases["lang_returns_a_parameter"] = written(
        {"returns": "x", "same": {"parameters": ["v"], "returns": "v"}, "x": ["same", "m"]}, m=source
    )
    double = {"parameters": ["v"], "returns": "y", "name": "add", "y": ["math", "name", "v", "v"]}
    cases["lang_function"] = written({"returns": "x", "double": double, "x": ["double", "m"]}, m=source)
    cases["lang_function_twice"] = written(
        {"returns": "x", "double": double, "y": ["double", "m"], "x": ["double", "y"]}, m=source
    )
    cases["lang_no_arguments"] = written(
        {
            "returns": "x",
            "f": {"returns": "y", "name": "mul", "k": 3, "y": ["math", "name", "m", "k"]},
            "x": ["f"],
        },
        m=source,
    )
    cases["lang_empty_named"] = written(
        {
            "returns": "x",
            "f": {"parameters": [], "returns": "y", "name": "mul", "k": 3, "y": ["math", "name", "m", "k"]},
            "x": ["f", {}],
        },
        m=source,
    )
    minus = {"parameters": ["p", "q"], "returns": "y", "name": "sub", "y": ["math", "name", "p", "q"]}
    two_sources = {"m": three("a"), "n": three("b")}
    cases["lang_positional"] = written({"returns": "x", "f": minus, "x": ["f", "m", "n"]}, **two_sources)
    cases["lang_named"] = written(
        {"returns": "x", "f": minus, "x": ["f", {"q": "m", "p": "n"}]}, **two_sources
    )
    cases["lang_mixed"] = written({"returns": "x", "f": minus, "x": ["f", "m", {"q": "n"}]}, **two_sources)
    cases["lang_closure"] = written(
        {
            "returns": "x",
            "k": 10,
            "f": {"parameters": ["v"], "returns": "y", "name": "add", "y": ["math", "name", "v", "k"]},
            "g": {"parameters": ["k"], "returns": "z", "z": ["f", "k"]},
            "x": ["g", "m"],
        },
        m=source,
    )
    cases["lang_shadowing"] = written(
        {
            "returns": "x",
            "k": 10,
            "name": "add",
            "f": {"parameters": ["v"], "returns": "y", "k": 100, "y": ["math", "name", "v", "k"]},
            "z": ["f", "m"],
            "x": ["math", "name", "z", "k"],
        },
        m=source,
    )
    cases["lang_nested_functions"] = written(
        {
            "returns": "x",
            "outer": {
                "parameters": ["v"],
                "returns": "y",
                "k": 2,
                "inner": {
                    "parameters": ["w"],
                    "returns": "z",
                    "name": "mul",
                    "t": ["math", "name", "w", "k"],
                    "minus": "sub",
                    "z": ["math", "minus", "t", "v"],
                },
                "y": ["inner", "n"],
            },
            "x": ["outer", "m"],
        },
        **two_sources,
    )
    cases["lang_function_returns_function"] = written(
        {
            "returns": "x",
            "adder": {
                "parameters": ["k"],
                "returns": "f",
                "f": {"parameters": ["v"], "returns": "y", "name": "add", "y": ["math", "name", "v", "k"]},
            },
            "five": 5,
            "seven": 7,
            "add5": ["adder", "five"],
            "add7": ["adder", "seven"],
            "y": ["add5", "m"],
            "x": ["add7", "y"],
        },
        m=source,
    )
    cases["lang_function_as_argument"] = written(
        {
            "returns": "x",
            "double": double,
            "twice": {"parameters": ["f", "v"], "returns": "z", "y": ["f", "v"], "z": ["f", "y"]},
            "x": ["twice", "double", "m"],
        },
        m=source,
    )
    cases["lang_shadowed_builtin"] = written(
        {
            "returns": "x",
            "mask": {
                "parameters": ["data", "other"],
                "returns": "y",
                "name": "sub",
                "y": ["math", "name", "data", "other"],
            },
            "x": ["mask", "m", "n"],
        },
        **two_sources,
    )
    cases["lang_key_named_like_builtin"] = written(
        {"returns": "x", "mask": 4, "reduction": "add", "x": ["math", "reduction", "m", "mask"]}, m=source
    )
    cases["lang_unreachable_nonsense"] = written(
        {
            "returns": "x",
            "name": "add",
            "k": 1,
            "x": add,
            "lost": ["nope", "nowhere"],
            "round": ["about", "round"],
            "about": ["round"],
        },
        m=source,
    )
    cases["lang_quoted_unused"] = written(
        {
            "returns": "x",
            "quoted": [[1, 2]],
            "more": [{"returns": 3, "a": [[]]}],
            "f": {"parameters": ["v", "unused"], "returns": "v"},
            "y": ["f", "m", "quoted"],
            "x": ["f", "y", "more"],
        },
        m=source,
    )
    cases["lang_quoted_cache_id"] = written(
        {"returns": "x", "name": "add", "k": 1, "c": [["any", 1]], "x": [*add, {"cache_id": "c"}]}, m=source
    )
    cases["lang_odd_key_names"] = written(
        {"returns": "a/b", "": 3, "~": "mul", " ": 1, "a/b": ["math", "~", "m", ""], "é": None}, m=source
    )
    cases["lang_shared_everywhere"] = written(
        {
            "returns": "x",
            "k": 1,
            "name": "add",
            "p": ["math", "name", "m", "m"],
            "q": ["math", "name", "p", "p"],
            "r": ["math", "name", "q", "q"],
            "s": ["math", "name", "r", "r"],
            "t": ["math", "name", "s", "s"],
            "x": ["math", "name", "t", "k"],
        },
        m=two("a"),
    )
    client = {"first": 4711, "stride": 3, "cache_ids": True}
    index = math("truediv", math("sub", one("b"), one("a")), math("add", one("b"), one("a")))
    cases["client_index"] = graft_of(index, **client)
    cloudless = ("mask", stack("a b"), math("eq", stack("q"), 3))
    cases["client_cloudless_median"] = graft_of(over_images(cloudless, "median"), **client)
    anomaly = math("sub", three("a"), over_images(three("a"), "mean"))
    shuffled = graft_of(anomaly, **client)
    cases["client_shuffled_keys"] = dict(sorted(shuffled.items(), key=lambda item: item[0][::-1]))
    return cases


# ---------------------------------------------------------------- the faults


def fault_cases():
    """Faults as name: (graft, class, words of the message, place or None)."""
    source = {"m": two("a b")}
    cases = {}

    def fault(name, kind, contains, at, body, **named):
        graft = body if not isinstance(body, dict) else written(body, **named)
        cases[name] = (graft, kind, contains, at)

    def wrong(name, contains, at, body, **named):
        fault(name, "invalid_request", contains, at, body, **named)

    wrong("not_an_object", [], None, [1, 2])
    wrong("missing_returns", ["returns"], None, {"x": 1})
    wrong("returns_not_a_name", ["returns"], None, {"returns": 5, "x": 1})
    wrong("returns_unknown", ["nowhere"], None, {"returns": "nowhere", "x": 1})
    wrong("empty_application", [], "/x", {"returns": "x", "x": []})
    wrong("inline_argument", [], None, {"returns": "x", "n": "add", "x": ["math", "n", "m", 1]}, **source)
    wrong("unreachable_malformed", [], "/lost", {"returns": "x", "x": 1, "lost": []})
    wrong("nested_missing_returns", ["returns"], "/f", {"returns": "x", "f": {"y": 1}, "x": ["f"]})
    wrong("unknown_function", ["nope"], "/x", {"returns": "x", "a": 1, "x": ["nope", "a"]})
    wrong("unknown_argument", ["gone"], "/x/2", {"returns": "x", "n": "neg", "x": ["math", "n", "gone", "n"]})
    body = {"returns": "x", "n": "add", "x": ["math", "n", "returns", "n"]}
    wrong("returns_as_a_key", ["returns"], "/x/2", body)
    wrong("not_a_function", [], "/x", {"returns": "x", "k": 3, "x": ["k", "k"]})
    body = {"returns": "x", "n": "add", "x": ["math", "n", "y", "y"], "y": ["math", "n", "x", "x"]}
    wrong("cycle", ["cycle"], None, body)
    wrong("cycle_of_one", ["cycle"], None, {"returns": "x", "n": "add", "x": ["math", "n", "x", "x"]})
    wrong("few_arguments", ["math"], "/x", {"returns": "x", "n": "neg", "x": ["math", "n"]})
    body = {"returns": "x", "n": "add", "x": ["math", "n", "m", "m", "m"]}
    wrong("many_arguments", ["math"], "/x", body, **source)
    body = {"returns": "x", "f": {"parameters": ["v"], "returns": "v"}}
    wrong("function_few_arguments", ["v"], "/x", {**body, "x": ["f"]})
    wrong("function_many_arguments", [], "/x", {**body, "x": ["f", "m", "m"]}, **source)
    wrong("bound_twice", ["v"], "/x", {**body, "x": ["f", "m", {"v": "m"}]}, **source)
    wrong("no_such_parameter", ["w"], "/x", {**body, "x": ["f", {"w": "m"}]}, **source)
    body = {"returns": "x", "f": {"parameters": ["v", "v"], "returns": "v"}, "x": ["f", "m", "m"]}
    wrong("repeated_parameter", [], None, body, **source)
    body = {"returns": "x", "n": "mod", "x": ["math", "n", "m", "m"]}
    wrong("unknown_math", ["mod"], "/x", body, **source)
    body = {"returns": "x", "n": 5, "x": ["math", "n", "m", "m"]}
    wrong("math_name_not_a_string", [], "/x", body, **source)
    wrong(
        "product_not_a_string",
        [],
        "/x",
        {"returns": "y"},
        y=("stack_scenes", Key("x"), "a", {"pad": 0, "resampler": "near"}),
        x=select("a", None, None, 5),
    )
    wrong(
        "date_not_a_date",
        ["someday"],
        "/x",
        {"returns": "y"},
        y=("stack_scenes", Key("x"), "a", {"pad": 0, "resampler": "near"}),
        x=select("a", "someday", None, "made:up"),
    )
    wrong("bands_not_names", [], "/x", {"returns": "x"}, x=("band_op", two("a b"), "pick_bands", "[1]", None))
    wrong("string_as_operand", [], "/x", {"returns": "x"}, x=math("add", two("a"), "a"))
    wrong(
        "unknown_reducer_axis",
        ["rows"],
        "/x",
        {"returns": "x"},
        x=("reduction", two("a"), "max", "rows", "ImageStack"),
    )

    def impossible(name, contains, node):
        fault(name, "impossible", contains, "/x", {"returns": "x"}, x=node)

    impossible("mosaic_unknown_band", ["zz"], mosaic("a zz"))
    impossible("ids_unknown_band", ["c"], images("a c", "s1", "o1"))
    fault("ids_unknown", "not_found", ["s9"], "/x", {"returns": "x"}, x=images("a", "s1", "s9"))
    bools = above(two("a"), 1)
    impossible(
        "unknown_band",
        ["zz"],
        ("stack_scenes", select("a", None, None, "made:up"), "a zz", {"pad": 0, "resampler": "near"}),
    )
    impossible("band_counts_differ", ["2", "3"], math("add", two("a b"), two("a b c")))
    impossible("band_counts_differ_mosaic", ["3", "2"], math("mul", flat("a b c"), two("a b")))
    impossible("image_counts_differ", ["2", "3"], math("add", two("a"), three("a")))
    impossible("image_counts_differ_empty", ["0", "3"], math("add", none("a"), three("a")))
    impossible("bool_minus_bool", ["bool"], math("sub", bools, bools))
    impossible("bool_rsub_true", ["bool"], math("rsub", bools, True))
    impossible("neg_of_bool", ["bool"], math("neg", bools))
    impossible("and_of_float", ["bool"], math("_and", two("a"), bools))
    impossible("or_with_a_number", ["bool"], math("_or", bools, 1))
    impossible("invert_of_float", ["bool"], math("invert", two("a")))
    impossible("mask_not_bool", ["bool"], ("mask", two("a b"), two("q")))
    impossible("mask_mosaic_by_stack", [], ("mask", flat("a"), bools))
    impossible("mask_band_count", ["3", "2"], ("mask", two("a b"), above(two("a b c"), 1)))
    impossible("mask_one_band_by_two", ["2", "1"], ("mask", two("a"), above(two("a b"), 1)))
    impossible("mask_image_count", [], ("mask", three("a"), bools))
    impossible("mask_one_image_on_many", [], ("mask", three("a"), above(one("a"), 1)))
    impossible("pick_unknown", ["zz"], pick(two("a b"), "a", "zz"))
    impossible("pick_lost_names", ["a"], pick(over_images(none("a b")), "a"))
    impossible("pick_old_name", ["a"], pick(rename(two("a b"), "x", "y"), "a"))
    impossible("rename_count", ["3", "2"], rename(two("a b"), "x", "y", "z"))
    impossible("concat_image_counts", ["2", "3"], join(two("a"), three("b")))
    impossible("concat_one_image_with_many", ["1", "3"], join(one("a"), three("b")))
    impossible("concat_kinds", [], join(two("a"), flat("b")))
    impossible("reduction_kind", ["Mosaic"], ("reduction", two("a"), "max", "images", "Mosaic"))
    impossible("reduction_of_mosaic", [], ("reduction", flat("a"), "max", "images", "ImageStack"))
    body = {
        "returns": "x",
        "f": {"parameters": ["v"], "returns": "y", "n": "neg", "z": None, "y": ["math", "n", "v", "z"]},
        "x": ["f", "m"],
    }
    fault("neg_of_bool_in_a_function", "impossible", ["bool"], "/f/y", body, m=bools)

    def later(name, word, node):
        fault(name, "unsupported", ["not supported yet", word], "/x", {"returns": "x"}, x=node)

    predicate = '{"op": "lt", "name": "cloud_fraction", "val": 0.5}'
    later("later_filter_data", "filter_data", ("filter_data", two("a"), predicate))
    later("later_filter_by_id", "filter_by_id", ("filter_by_id", two("a"), '["s1"]'))
    later("later_groupby_data", "groupby_data", ("groupby_data", two("a"), "gAVLAS4="))
    later("later_index", "index", ("index", two("a"), 0))
    later("later_length", "length", ("length", two("a")))
    later("later_resolution_x", "resolution_x", ("resolution_x",))
    later("later_code", "code", ("code", "gAVLAS4=", two("a")))
    later("later_reduction_std", "std", ("reduction", two("a"), "std", "images", "ImageStack"))
    later("later_reduction_pixels", "pixels", ("reduction", two("a"), "mean", "pixels", "ImageStack"))
    later("later_gradient_x", "gradient_x", math("gradient_x", two("a")))

    fault(
        "unknown_product",
        "not_found",
        ["made:none"],
        "/x",
        {"returns": "y"},
        y=("stack_scenes", Key("x"), "a", {"pad": 0, "resampler": "near"}),
        x=select("a", None, None, "made:none"),
    )
    return cases


# ---------------------------------------------------------------- output

# Units in the last place by which an engine's float32 may differ: powers come from each side's own libm.
POWERS = ("_pow", "rpow")


def uses_power(node):
    if isinstance(node, dict):
        return any(uses_power(value) for value in node.values())
    return node in POWERS if isinstance(node, str) else False


def differing_keys(one_props, other_props):
    """The keys, of a dict or of any dict in a list, by which two property values differ."""
    pairs = [(one_props, other_props)] if isinstance(one_props, dict) else list(zip(one_props, other_props))
    absent = object()
    return sorted({k for p, q in pairs for k in {*p, *q} if p.get(k, absent) != q.get(k, absent)})


def make_cases(world, arrays):
    grafts = {name: graft_of(node) for name, node in expression_cases().items()}
    grafts.update(language_cases())
    cases, expected = [], {}
    for name, graft in grafts.items():
        result = Evaluator(world, arrays, keep_product=False).run(graft)
        kept = Evaluator(world, arrays, keep_product=True).run(graft)
        case = {"name": name, "graft": graft}
        if is_number(result):
            case.update(kind="number", dtype="float64", bands=None, properties={}, number=float(result))
        else:
            mask = np.ma.getmaskarray(result.data)
            data = np.where(mask, result.data.dtype.type(0), result.data.data)
            assert data.dtype in (np.float32, bool) and data.shape == mask.shape, name
            assert not result.is_stack or len(result.props) == len(data), name
            expected[f"{name}_data"] = data
            expected[f"{name}_mask"] = mask
            case.update(
                kind="stack" if result.is_stack else "mosaic",
                dtype=str(data.dtype),
                bands=names_of(result.first_props()),
                properties=result.props,
                ignore=differing_keys(result.props, kept.props),
                ulps=2 if uses_power(graft) else 0,
            )
        cases.append(case)
    return cases, expected


def make_errors(world, arrays):
    errors = []
    for name, (graft, kind, contains, at) in fault_cases().items():
        try:
            Evaluator(world, arrays, keep_product=True).run(graft)
        except Fault as fault:
            assert fault.kind == kind, f"{name}: {fault.kind}: {fault}"
            assert at is None or fault.at == at, f"{name}: at {fault.at}"
            assert all(word in fault.message for word in contains), f"{name}: {fault}"
        else:
            raise AssertionError(f"{name}: no fault")
        errors.append({"name": name, "graft": graft, "class": kind, "contains": contains, "at": at})
    return errors


def json_bytes(value):
    """A list one item a line, anything else indented."""
    if isinstance(value, list):
        lines = ",\n".join(json.dumps(item, ensure_ascii=False) for item in value)
        return f"[\n{lines}\n]\n".encode()
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def npz_bytes(arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: np.ascontiguousarray(array) for name, array in arrays.items()})
    return buffer.getvalue()


def same(path, content):
    """Whether the file holds this content; archives are compared array by array."""
    if not path.exists():
        return False
    if path.suffix != ".npz":
        return path.read_bytes() == content
    with np.load(path) as old, np.load(io.BytesIO(content)) as new:
        return set(old) == set(new) and all(
            old[k].dtype == new[k].dtype and np.array_equal(old[k], new[k], equal_nan=old[k].dtype != bool)
            for k in new
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the files, write nothing")
    check = parser.parse_args().check
    world, arrays = make_world()
    cases, expected = make_cases(world, arrays)
    files = {
        "world.json": json_bytes(world),
        "world.npz": npz_bytes(arrays),
        "cases.json": json_bytes(cases),
        "expected.npz": npz_bytes(expected),
        "errors.json": json_bytes(make_errors(world, arrays)),
    }
    stale = [name for name, content in files.items() if not same(HERE / name, content)]
    if check:
        for name in stale:
            print(f"{name} differs", file=sys.stderr)
        return 1 if stale else 0
    for name, content in files.items():
        (HERE / name).write_bytes(content)
        print(f"{name}: {len(content)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())

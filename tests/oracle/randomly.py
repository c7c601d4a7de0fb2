"""Random well-typed grafts. Every step is computed at once by the reference: its facts are those of values."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from .grafts import Body
from .reference import Array, Groups, Raster, is_number
from .reference.language import OPS
from .reference.values import Function

VALUES_MAX = 20_000
BANDS_MAX = 8
BINARY = "add sub mul truediv floordiv pow radd rsub rmul rtruediv rfloordiv rpow".split()
COMPARISONS = "eq ne gt ge lt le".split()
LOGIC = "and or rand ror".split()
IN_MATH = {"pow": "_pow", "abs": "_abs", "and": "_and", "or": "_or"}
CLIENT_FUNCTIONS = "sqrt cos sin tan arccos arcsin arctan log log10".split()
REDUCERS = "max min mean median sum std argmax argmin count any all first last var ptp percentile".split()
NUMBERS = (0, 1, 2, -1, 0.5, -2.5, 3, 7, 0.1, 100, 1e-3, 1e30)


@dataclass
class Node:
    """A part of a graft, its value, and how far from it an engine may be, in units in the last place."""

    tree: object
    value: object
    ulps: int = 0
    # What nothing settles about its properties.
    ignore: tuple = ()


class Retry(Exception):
    """This step does not fit what there is."""


def check_size(value):
    if isinstance(value, (Raster, Array)):
        if value.data.size > VALUES_MAX or (isinstance(value, Raster) and value.band_count > BANDS_MAX):
            raise Retry
    elif not (is_number(value) or isinstance(value, Groups)):
        raise Retry


def is_bool(node):
    return node.value.data.dtype == bool


def valid_values(node):
    return node.value.data.data[~np.ma.getmaskarray(node.value.data)]


def is_finite(node):
    return bool(np.isfinite(valid_values(node)).all())


def is_small(node):
    """Whether every sum of these in float64 is exact or nearly so."""
    values = np.abs(valid_values(node).astype(np.float64))
    return bool((np.isfinite(values) & (values <= 1e6)).all())


class Random:
    """What there is so far, and how it is chosen and written."""

    def __init__(self, rng, evaluator, world):
        self.rng, self.ev, self.world = rng, evaluator, world
        self.pad = rng.choice([0, 0, 0, 1, 3])
        self.pool = []
        self.parameters = {"unused": 1} if rng.random() < 0.1 else {}
        evaluator.parameters = self.parameters

    # ------------------------------------------------------------ choosing

    def choose(self, fits):
        found = [node for node in self.pool if fits(node)]
        if not found:
            raise Retry
        # Later nodes more often: grafts grow deep.
        return found[min(int(abs(self.rng.gauss(0, 0.4)) * len(found)), len(found) - 1) * -1 - 1]

    def raster(self, fits=lambda node: True):
        return self.choose(lambda node: isinstance(node.value, Raster) and fits(node))

    def exact(self, fits=lambda node: True):
        return self.raster(lambda node: not node.ulps and fits(node))

    def stack(self, fits=lambda node: True):
        return self.raster(lambda node: node.value.is_stack and fits(node))

    def boolean(self):
        return self.raster(is_bool)

    def number(self):
        return self.rng.choice(NUMBERS) if self.rng.random() < 0.7 else round(self.rng.uniform(-5, 5), 2)

    def finite(self):
        """An exact raster of finite numbers."""
        node = self.exact()
        if not is_finite(node):
            node = self.made("truediv", node, 1)
        return node

    def tame(self):
        """An exact raster of moderate numbers, so that sums of it lose nothing."""
        node = self.finite()
        return self.made("clip", node, -512, 512) if not is_small(node) else node

    # ------------------------------------------------------------ making

    def made(self, op, *arguments, ulps=None, ignore=(), **named):
        """A node of an op on nodes and plain values; `ulps` of its own, beyond those of its operands."""
        values = [self.value_of(a) for a in arguments]
        run, parameters, _ = OPS[op]
        given = dict(zip(parameters, values))
        given.update(named)
        value = run(self.ev, "", *(given.get(name) for name in parameters))
        check_size(value)
        nodes = [a for a in arguments if isinstance(a, Node)]
        tree = self.spelled(op, [a.tree if isinstance(a, Node) else a for a in arguments], named)
        worst = max((n.ulps for n in nodes), default=0)
        node = Node(tree, value, worst if ulps is None else ulps)
        node.ignore = tuple(sorted({*ignore, *(i for n in nodes for i in n.ignore)}))
        self.pool.append(node)
        return node

    def value_of(self, argument):
        if isinstance(argument, Node):
            return argument.value
        if isinstance(argument, Body):
            return Function(argument, None, "")
        if isinstance(argument, tuple):
            return OPS[argument[0]][0](self.ev, "", *argument[1:])
        if isinstance(argument, list) and len(argument) == 1 and isinstance(argument[0], (list, dict)):
            return argument[0]
        return argument

    def spelled(self, op, arguments, named):
        """The op under its own name, or as the published client writes it."""
        named = [named] if named else []
        if self.rng.random() < 0.5:
            return (op, *arguments, *named)
        if op in (*BINARY, *COMPARISONS, *LOGIC, "arctan2"):
            return ("math", IN_MATH.get(op, op), *arguments)
        if op in ("abs", "neg", "invert", "gradient_x", "gradient_y"):
            return ("math", IN_MATH.get(op, op), *arguments, None)
        if op in CLIENT_FUNCTIONS:
            return ("functional", *arguments, op)
        if op == "percentile":
            a, axis, q, *kind = arguments
            return ("reduction", a, op, axis, *(kind or [None]), {"q": q})
        if op in REDUCERS:
            a, axis, *kind = arguments
            return ("reduction", a, op, axis, *(kind or [None]))
        if op in ("pick_bands", "rename_bands"):
            return ("band_op", arguments[0], op, arguments[1], None)
        if op == "concat_bands":
            return ("band_op", arguments[0], op, None, arguments[1])
        return (op, *arguments, *named)

    # ------------------------------------------------------------ sources

    def source(self):
        rng = self.rng
        product = rng.choice(self.world["products"])
        bands = rng.sample(product["bands"], rng.randint(1, len(product["bands"])))
        pad = self.pad if rng.random() < 0.7 else 0
        start, end = self.dates(product)
        kind = rng.choice(["mosaic", "stack", "stack", "stack", "ids"])
        common = {"pad": pad, "resampler": rng.choice(["near", "near", "cubic", None])}
        if kind == "ids":
            ids = [
                s["id"] for p in self.world["products"] for s in p["scenes"] if set(bands) <= set(s["bands"])
            ]
            ids = rng.sample(ids, min(len(ids), rng.randint(1, 3)))
            tree = ("from_image_ids", json.dumps(ids), " ".join(bands), common)
        elif kind == "mosaic":
            dates = {"start_datetime": start, "end_datetime": end}
            tree = ("mosaic", product["id"], " ".join(bands), {**dates, **common})
        else:
            by = rng.choice([None, None, "acquired", "cloud_fraction", "id", "view_angle"])
            chosen = {
                "start_datetime": start,
                "end_datetime": end,
                "predicate_filter": json.dumps(self.predicate()) if rng.random() < 0.2 else None,
                "sort_by": by,
                "ascending": rng.random() < 0.6 if by else True,
                "pad": pad,
            }
            tree = (
                "stack_scenes",
                ("select_scenes", product["id"], " ".join(bands), chosen),
                " ".join(bands),
                common,
            )
        node = Node(tree, self.run(tree))
        self.pool.append(node)
        return node

    def run(self, tree):
        op, *arguments = tree
        named = arguments.pop() if type(arguments[-1]) is dict else {}
        run, parameters, _ = OPS[op]
        given = dict(zip(parameters, (self.run(a) if isinstance(a, tuple) else a for a in arguments)))
        given.update(named)
        return run(self.ev, "", *(given.get(name) for name in parameters))

    def dates(self, product):
        moments = sorted({s["acquired"].removesuffix("Z") for s in product["scenes"]})
        pick = self.rng.random()
        if pick < 0.5 or not moments:
            return None, None
        if pick < 0.54:  # nothing
            return "2030-01-01", "2031-01-01"
        start, end = sorted([self.rng.choice(moments), self.rng.choice([*moments, "2026-01-01T00:00:00"])])
        if self.rng.random() < 0.15:
            name = f"first{len(self.parameters)}"
            self.parameters[name], start = start, name
        return (start, None) if self.rng.random() < 0.3 else (start, end)

    def predicate(self, depth=0):
        rng = self.rng
        if depth < 2 and rng.random() < 0.3:
            parts = [self.predicate(depth + 1) for _ in range(rng.randint(1, 3))]
            return {rng.choice(["and", "or"]): parts}
        if rng.random() < 0.15:
            return {
                "op": rng.choice(["isnull", "isnotnull"]),
                "name": rng.choice(["view_angle", "id", "nowhere"]),
            }
        op = rng.choice("eq ne gt gte lt lte".split())
        name, value = rng.choice(
            [
                ("cloud_fraction", rng.choice([0.125, 0.5, 0.75])),
                ("view_angle", rng.choice([0, -3.5, 5])),
                ("satellite_id", rng.choice("ABC")),
                ("acquired", rng.choice(["2024-04-01", "2024-06-29T00:00:00+00:00", "2024-09-27T07:00:00"])),
                ("tags", "x"),
            ]
        )
        if name in ("satellite_id", "tags") and rng.random() < 0.5:
            op, value = rng.choice([("prefix", "x"), ("like", "_"), ("ilike", "%b%")])
        if name == "tags" and op in ("gt", "gte", "lt", "lte"):
            op = "eq"
        return {"op": op, "name": name, "val": value}

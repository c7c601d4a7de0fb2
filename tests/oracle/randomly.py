"""Random well-typed grafts. Every step is computed at once by the reference: its facts are those of values."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from .grafts import Body, Key, array, function, quoted
from .reference import Array, Fault, Groups, Length, Raster, is_number, names_of
from .reference.language import OPS
from .reference.values import Function, pad_of

VALUES_MAX = 20_000
BANDS_MAX = 8
BINARY = "add sub mul truediv floordiv pow radd rsub rmul rtruediv rfloordiv rpow".split()
OWN_BINARY = ["mod", "minimum", "maximum", "normalized_difference"]
COMPARISONS = "eq ne gt ge lt le".split()
LOGIC = "and or rand ror".split()
IN_MATH = {"pow": "_pow", "abs": "_abs", "and": "_and", "or": "_or"}
CLIENT_FUNCTIONS = "sqrt cos sin tan arccos arcsin arctan log log10".split()
OWN_FUNCTIONS = "exp floor ceil round".split()
EXACT_FUNCTIONS = "sqrt floor ceil round".split()
REDUCERS = "max min mean median sum std argmax argmin count any all first last var ptp percentile".split()
NOT_OVER_PIXELS = "argmax argmin first last".split()
ROUNDED_SUMS = "sum mean std var".split()
NUMBERS = (0, 1, 2, -1, 0.5, -2.5, 3, 7, 0.1, 100, 1e-3, 1e30)
KERNELS = (
    [[1]],
    [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
    [[1, 0, -2]],
    [[0.5], [0], [0.25], [2], [1]],
)


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


class Random:
    def __init__(self, rng, evaluator, world):
        self.rng, self.ev, self.world = rng, evaluator, world
        self.pad = rng.choice([0, 0, 0, 1, 3])
        self.pool = []
        self.parameters = {}
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
            ids = [s["id"] for p in self.world["products"] for s in p["scenes"] if set(bands) <= set(s["bands"])]
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
            tree = ("stack_scenes", ("select_scenes", product["id"], " ".join(bands), chosen), " ".join(bands), common)
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
        return (start, None) if self.rng.random() < 0.3 else (start, end)

    def predicate(self, depth=0):
        rng = self.rng
        if depth < 2 and rng.random() < 0.3:
            parts = [self.predicate(depth + 1) for _ in range(rng.randint(1, 3))]
            return {rng.choice(["and", "or"]): parts}
        if rng.random() < 0.15:
            return {"op": rng.choice(["isnull", "isnotnull"]), "name": rng.choice(["view_angle", "id", "nowhere"])}
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

    # ------------------------------------------------------------ steps

    def other_operand(self, a):
        """A node or a number that may meet `a`."""
        pick = self.rng.random()
        if pick < 0.3:
            return self.number()
        if pick < 0.45:
            return self.an_array(a)
        if pick < 0.55:
            return self.choose(lambda n: isinstance(n.value, (Array, Length)) and not n.ulps)
        return self.exact()

    def an_array(self, a):
        """An array that fits: along the leading axis, along columns, or rows and columns."""
        shape = a.value.data.shape
        size = self.rng.choice([shape[:1], shape[-1:], shape[-2:], (1,), ()])
        if 0 in size:
            raise Retry
        values = [self.rng.choice([0, 1, 2, -3, 0.5, 10]) for _ in range(int(np.prod(size)))]
        dtype = self.rng.choice(["<f8", "<f4", "<i8", "|b1"])
        tree = array(np.reshape(values, size), dtype, self.rng.choice("CF"))
        return Node(tree, self.run(tree))

    def step_binary(self):
        a = self.exact()
        b = self.other_operand(a)
        op = self.rng.choice(BINARY if self.rng.random() < 0.8 else OWN_BINARY)
        if self.rng.random() < 0.3 and not isinstance(b, Node):
            a, b = b, a
        elif self.rng.random() < 0.3 and isinstance(b, Node) and not isinstance(b.value, Length):
            a, b = b, a
        return self.made(op, a, b, ulps=2 if op in ("pow", "rpow") else 0)

    def step_arctan2(self):
        # Which of two zeros a minimum takes is not settled; their signs decide an angle.
        a, b = (self.made("add", self.exact(lambda n: not is_bool(n)), 0) for _ in range(2))
        return self.made("arctan2", a, b, ulps=2)

    def step_compare(self):
        a = self.exact()
        return self.made(self.rng.choice(COMPARISONS), a, self.other_operand(a))

    def step_logic(self):
        a = self.boolean()
        b = self.boolean() if self.rng.random() < 0.8 else self.rng.choice([True, False])
        return self.made(self.rng.choice(LOGIC), a, b)

    def step_unary(self):
        op = self.rng.choice(["abs", "neg", "invert"])
        a = self.boolean() if op == "invert" else self.raster(lambda n: not is_bool(n))
        return self.made(op, a)

    def step_function(self):
        op = self.rng.choice([*CLIENT_FUNCTIONS, *OWN_FUNCTIONS])
        a = self.choose(lambda n: isinstance(n.value, (Raster, Array)) and not n.ulps)
        if op in ("sin", "cos", "tan") and not is_small(a):
            a = self.made("clip", a, -1000, 1000)
        return self.made(op, a, ulps=0 if op in EXACT_FUNCTIONS else 2)

    def step_scale(self):
        a = self.raster(lambda n: n.ulps and n.ulps < 8)
        op = self.rng.choice(["mul", "rmul", "truediv"])
        return self.made(op, a, self.rng.choice([2, 57.29577951308232, -0.1]), ulps=2 * a.ulps + 1)

    def step_clip(self):
        return self.made("clip", self.raster(), *sorted(self.rng.sample([-100, -1, 0, 0.25, 2.5, 50], 2)))

    def step_filled(self):
        return self.made("filled", self.raster(), self.number())

    def step_wild(self):
        """Infinities and NaN."""
        a = self.made("mul", self.exact(), 1e30)
        a = self.made("mul", a, 1e10)
        return self.made("sub", a, self.made("mul", self.exact(), 1e38)) if self.rng.random() < 0.5 else a

    def step_where(self):
        condition, a = self.boolean(), self.exact()
        b = self.exact() if self.rng.random() < 0.6 else self.number()
        if self.rng.random() < 0.3:
            a, b = b, a
        unsettled = ("bands", "product_id", "other_product_id", "other_product_ids")
        node = self.made("where", condition, a, b, ignore=unsettled)
        names = [f"w{i}" for i in range(node.value.band_count)]
        return self.made("rename_bands", node, json.dumps(names))

    def step_isin(self):
        values = self.rng.sample([0, 1, 2, 0.5, -1, 3, 100], self.rng.randint(0, 4))
        return self.made("isin", self.exact(), quoted(values))

    def step_bits(self):
        if self.rng.random() < 0.5:
            return self.made("bit", self.exact(), self.rng.randint(0, 5))
        start = self.rng.randint(0, 31)
        return self.made("bits", self.exact(), start, self.rng.randint(1, 32 - start))

    def step_mask(self):
        a = self.raster()
        if self.rng.random() < 0.15:
            shape = a.value.data.shape[-2:]
            values = [self.rng.random() < 0.3 for _ in range(int(np.prod(shape)))]
            tree = array(np.reshape(values, shape), "|b1")
            return self.made("mask", a, Node(tree, self.run(tree)))
        return self.made("mask", a, self.boolean())

    def step_pick(self):
        a = self.raster(lambda n: names_of(n.value.first_props()) and "bands" not in n.ignore)
        names = names_of(a.value.first_props())
        picked = [self.rng.choice(names) for _ in range(self.rng.randint(1, min(3, len(names) + 1)))]
        return self.made("pick_bands", a, json.dumps(picked))

    def step_rename(self):
        a = self.raster()
        names = [f"r{self.rng.randint(0, 9)}{i}" for i in range(a.value.band_count)]
        text = json.dumps(names) if self.rng.random() < 0.6 else json.dumps(" ".join(names))
        return self.made("rename_bands", a, text)

    def step_concat(self):
        a = self.raster()
        fits = lambda n: n.value.is_stack == a.value.is_stack  # noqa: E731
        b = self.raster(fits)
        if pad_of(a.value.props) != pad_of(b.value.props):
            raise Retry
        # Which decimal position stands for a lost name of the second, the protocol leaves open.
        if not names_of(b.value.first_props()):
            raise Retry
        return self.made("concat_bands", a, b)

    def step_reduce(self):
        op = self.rng.choice(REDUCERS)
        axis = self.rng.choice(["images", "images", "bands", "pixels"])
        if axis == "pixels" and op in NOT_OVER_PIXELS:
            raise Retry
        a = self.stack(lambda n: not n.ulps) if axis == "images" else self.exact()
        # What argmax and argmin of no image at all are, the protocol leaves open.
        if op in ("argmax", "argmin") and axis == "images" and not len(a.value.props):
            raise Retry
        if op == "percentile" and not is_finite(a):
            a = self.made("truediv", a, 1)
        if op in ROUNDED_SUMS and not is_small(a):
            if self.rng.random() < 0.7:
                a = self.made("clip", self.made("truediv", a, 1), -512, 512)
        kind = [a.value.kind] if self.rng.random() < 0.8 else []
        q = [self.rng.choice([0, 10, 25, 50, 75, 90, 100, 33.3])] if op == "percentile" else []
        return self.made(op, a, axis, *q, *kind, ulps=1 if op in ROUNDED_SUMS else 0)

    def step_reducer_function(self):
        axis = self.rng.choice(["images", "bands", "pixels"])
        a = self.stack(lambda n: not n.ulps and len(n.value.props)) if axis == "images" else self.exact()
        x, by = Key("a"), Key("axis")
        spread = ("sub", ("max", x, by), ("min", x, by))
        forms = [
            (("sub", ("percentile", x, by, 75), ("percentile", x, by, 25)), True),
            (("add", ("count", x, by), ("median", x, by)), False),
            (("any", ("gt", x, ("median", x, by)), by), False),
            (("median", ("mask", x, ("lt", x, 0.5)), by), False),
        ]
        body, finite = self.rng.choice(forms) if is_bool(a) else self.rng.choice([*forms, (spread, False)])
        if finite and not is_finite(a):
            a = self.made("truediv", a, 1)
        reducer = function(["a", "axis"], body)
        value = OPS["reduction"][0](self.ev, "", a.value, Function(reducer, None, ""), axis, a.value.kind, None)
        node = Node(("reduction", a.tree, reducer, axis, a.value.kind), value, 0, a.ignore)
        self.pool.append(node)
        return node

    def step_back(self):
        """A reduction over pixels that meets the pixels it comes from."""
        a = self.exact(lambda n: not is_bool(n))
        over = self.made(self.rng.choice(["max", "min", "median", "count"]), a, "pixels")
        return self.made(self.rng.choice(["sub", "truediv", "gt", "rsub", "add"]), a, over)

    def step_filter(self):
        a = self.stack()
        if self.rng.random() < 0.6:
            predicate = self.predicate() if self.rng.random() < 0.7 else [self.predicate(), self.predicate()]
            text = json.dumps(predicate) if self.rng.random() < 0.7 else quoted(predicate)
            return self.made("filter_data", a, text)
        return self.made("filter_data", a, function(["image"], self.condition(Key("image"))))

    def condition(self, image):
        attr = lambda name, of=image: ("attr", of, name)  # noqa: E731
        when = attr("acquired")
        simple = [
            ("lt", attr("cloud_fraction"), self.rng.choice([0.2, 0.5, 0.8])),
            ("ge", attr("month", when), self.rng.randint(1, 12)),
            ("eq", attr("satellite_id"), self.rng.choice("ABC")),
            ("endswith", attr("id"), str(self.rng.randint(0, 3))),
            ("contains", attr("tags"), "x"),
            ("ge", attr("view_angle"), 0),
            ("is_null", attr("view_angle")),
            ("isin", attr("satellite_id"), quoted(["A", "C"])),
            ("eq", ("mod", attr("day", when), 2), 1),
        ]
        one = self.rng.choice(simple)
        pick = self.rng.random()
        if pick < 0.3:
            return (self.rng.choice(["and", "or"]), one, self.rng.choice(simple))
        return ("invert", one) if pick < 0.4 else one

    def step_filter_by_id(self):
        a = self.stack()
        ids = [own.get("id") for own in a.value.props if own.get("id")]
        ids = [i for i in ids if self.rng.random() < 0.6]
        self.rng.shuffle(ids)
        return self.made("filter_by_id", a, json.dumps([*ids, "nobody"]))

    def step_index(self):
        a = self.stack(lambda n: len(n.value.props))
        n = len(a.value.props)
        return self.made("index", a, self.rng.randrange(-n, n))

    def step_length(self):
        return self.made("length", self.stack())

    def step_group(self):
        a = self.stack()
        image = Key("image")
        attr = lambda name, of=image: ("attr", of, name)  # noqa: E731
        when = attr("acquired")
        key = self.rng.choice(
            [
                attr("month", when),
                attr("satellite_id"),
                ("tuple", attr("satellite_id"), attr("year", when)),
                ("floordiv", attr("month", when), 3),
                ("strftime", when, "%Y-%m"),
                ("slice", attr("id"), 0, 3),
                ("upper", attr("id")),
                ("add", ("str", attr("month", when)), attr("satellite_id")),
                attr("date", when),
                ("lt", attr("cloud_fraction"), 0.5),
            ]
        )
        return self.made("groupby_data", a, function(["image"], key))

    def step_dot(self):
        a = self.tame()
        pick = self.rng.random()
        length = a.value.data.shape[0]
        if length == 0:
            raise Retry
        if pick < 0.3:
            fits = lambda n: n.value.is_stack == a.value.is_stack and len(n.value.data) == length  # noqa: E731
            b = self.exact(fits)
            if not is_small(b) or b.value.band_count != a.value.band_count:
                raise Retry
            kinds = (a.value.kind, b.value.kind)
        else:
            shape = (length,) if pick < 0.6 else (length, self.rng.randint(1, 3))
            left = self.rng.random() < 0.5
            values = [self.rng.choice([0, 1, 2, -3, 0.5, 10]) for _ in range(int(np.prod(shape)))]
            matrix = np.reshape(values, shape)
            tree = array(matrix.T if left else matrix)
            b, kinds = Node(tree, self.run(tree)), (a.value.kind, "ndarray")
            if left:
                a, b, kinds = b, a, kinds[::-1]
        return self.made("dot", a, b, *kinds, ulps=1)

    def step_gradient(self):
        return self.made(self.rng.choice(["gradient_x", "gradient_y"]), self.exact())

    def step_resolution(self):
        op = self.rng.choice(["resolution_x", "resolution_y"])
        node = Node((op,), OPS[op][0](self.ev, ""))
        return self.made("truediv", self.exact(), node)

    def step_focal(self):
        op = self.rng.choice("focal_mean focal_min focal_max focal_median dilate erode".split())
        size = self.rng.choice([1, 3, 3, 5, quoted([3, 5]), quoted([1, 3])])
        if op in ("dilate", "erode"):
            size = [size] if self.rng.random() < 0.7 else []
            return self.made(op, self.boolean(), *size)
        if op == "focal_mean":
            # Sums in row order, rounded once: settled to the bit.
            return self.made(op, self.tame(), size)
        return self.made(op, self.exact(), size)

    def step_convolve(self):
        kernel = self.rng.choice(KERNELS)
        kernel = quoted(kernel) if self.rng.random() < 0.5 else self.literal_array(kernel)
        return self.made("convolve", self.tame(), kernel)

    def literal_array(self, values):
        tree = array(values)
        return Node(tree, self.run(tree))

    def step_slope(self):
        return self.made(self.rng.choice(["slope", "aspect"]), self.tame(), ulps=2)

    def step_call(self):
        """A graft function of one raster."""
        a = self.exact(lambda n: not is_bool(n))
        v = Key("v")
        inner = self.rng.choice(
            [
                ("add", v, ("mul", v, 2)),
                ("math", "truediv", v, ("math", "add", v, 1)),
                ("clip", v, 0, 2),
                ("mask", v, ("lt", v, 1)),
            ]
        )
        body = function(["v"], inner)
        value = self.ev.apply(Function(body, None, ""), [a.value], {}, "")
        node = Node((body, a.tree), value, 0, a.ignore)
        self.pool.append(node)
        return node

    STEPS = {
        "binary": 9,
        "compare": 5,
        "logic": 3,
        "unary": 2,
        "function": 4,
        "arctan2": 1,
        "scale": 1,
        "clip": 1,
        "filled": 2,
        "wild": 1,
        "where": 2,
        "isin": 1,
        "bits": 1,
        "mask": 4,
        "pick": 2,
        "rename": 1,
        "concat": 2,
        "reduce": 9,
        "reducer_function": 2,
        "back": 2,
        "filter": 3,
        "filter_by_id": 1,
        "index": 2,
        "length": 0.5,
        "group": 0.5,
        "dot": 2,
        "gradient": 2,
        "resolution": 1,
        "focal": 3,
        "convolve": 1,
        "slope": 1,
        "call": 1,
    }

    def graft(self, longest):
        """The last of some random steps."""
        for _ in range(self.rng.randint(1, 3)):
            self.source()
        wanted = self.rng.randint(0, longest)
        last, tries = self.pool[-1], 0
        while wanted and tries < 200:
            tries += 1
            name = self.rng.choices(list(self.STEPS), list(self.STEPS.values()))[0]
            before = len(self.pool)
            try:
                with np.errstate(all="ignore"):
                    last = getattr(self, f"step_{name}")()
            except (Retry, Fault, AssertionError):
                del self.pool[before:]
                continue
            wanted -= 1
            if isinstance(last.value, Groups):
                break
        return last


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

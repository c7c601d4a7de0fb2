"""The steps of random grafts: each puts an op on what there is."""

from __future__ import annotations

import json

import numpy as np

from .grafts import Key, array, function, quoted
from .randomly import (
    BINARY,
    CLIENT_FUNCTIONS,
    COMPARISONS,
    LOGIC,
    Node,
    REDUCERS,
    Random,
    Retry,
    is_bool,
    is_finite,
    is_small,
)
from .reference import Array, Fault, Groups, Length, Raster, names_of
from .reference.language import OPS
from .reference.values import Function, pad_of

OWN_BINARY = ["mod", "minimum", "maximum", "normalized_difference"]
OWN_FUNCTIONS = "exp floor ceil round".split()
EXACT_FUNCTIONS = "sqrt floor ceil round".split()
NOT_OVER_PIXELS = "argmax argmin first last".split()
ROUNDED_SUMS = "sum mean std var".split()
KERNELS = (
    [[1]],
    [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
    [[1, 0, -2]],
    [[0.5], [0], [0.25], [2], [1]],
)


class Steps(Random):
    """Random grafts of several steps."""

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
        op = self.rng.choice([*REDUCERS, *ROUNDED_SUMS])
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
        value = OPS["reduction"][0](
            self.ev, "", a.value, Function(reducer, None, ""), axis, a.value.kind, None
        )
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
            ("startswith", ("lower", attr("satellite_id")), "a"),
            ("gt", ("len", attr("tags")), 0),
            ("lt", ("int", ("item", ("split", attr("id"), "-"), 1)), 2),
            ("eq", ("replace", ("strip", attr("id")), "-", ""), "one0"),
            ("lt", ("add", ("float", attr("cloud_fraction")), 0.1), 0.5),
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
                ("item", ("split", attr("id"), "-"), 0),
                ("int", ("item", ("split", attr("id"), "-"), 1)),
                ("where", ("is_null", attr("view_angle")), "unknown", "known"),
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
        "function": 6,
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
        "reduce": 11,
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
            # What is only nearly known can be the operand of little: it is often the result.
            if isinstance(last.value, Groups) or (last.ulps and self.rng.random() < 0.6):
                break
        return last

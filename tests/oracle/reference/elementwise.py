"""Value by value: arithmetic, comparison, logic, functions, masks."""

from __future__ import annotations

import base64
import io
import json

import numpy as np

from .values import (
    Array,
    Fault,
    Raster,
    as_float,
    broadcast,
    common_pad,
    expect,
    is_number,
    names_of,
    operand,
    raster,
)

# The word for each operation in the names of combined bands.
OPERATIONS = {
    "add": "sum",
    "sub": "sub",
    "mul": "mul",
    "truediv": "div",
    "floordiv": "floordiv",
    "pow": "exp",
    "eq": "cmp",
    "ne": "cmp",
    "gt": "cmp",
    "ge": "cmp",
    "lt": "cmp",
    "le": "cmp",
    "and": "and",
    "or": "or",
    "arctan2": "arctan2",
    "mod": "mod",
    "minimum": "minimum",
    "maximum": "maximum",
    "normalized_difference": "normalized_difference",
}
REFLECTED = {
    "radd": "add",
    "rsub": "sub",
    "rmul": "mul",
    "rtruediv": "truediv",
    "rfloordiv": "floordiv",
    "rpow": "pow",
    "rand": "and",
    "ror": "or",
}
UNARY = ("abs", "neg", "invert")
# Names in `math` where they are not the op's own.
IN_MATH = {"_pow": "pow", "_abs": "abs", "_and": "and", "_or": "or"}
COMPARISONS = {
    "eq": np.ma.equal,
    "ne": np.ma.not_equal,
    "gt": np.ma.greater,
    "ge": np.ma.greater_equal,
    "lt": np.ma.less,
    "le": np.ma.less_equal,
}
# Functions of one number in float64, and where numpy.ma has no value for them.
FUNCTIONS = {
    "sqrt": (np.sqrt, lambda x: x < 0),
    "cos": (np.cos, None),
    "sin": (np.sin, None),
    "tan": (np.tan, lambda x: np.abs(np.cos(x)) < 1e-35),
    "arccos": (np.arccos, lambda x: np.abs(x) > 1),
    "arcsin": (np.arcsin, lambda x: np.abs(x) > 1),
    "arctan": (np.arctan, None),
    "log": (np.log, lambda x: x <= 0),
    "log10": (np.log10, lambda x: x <= 0),
    "exp": (np.exp, None),
    "floor": (np.floor, None),
    "ceil": (np.ceil, None),
    "round": (np.rint, None),
}
CLIENT_FUNCTIONS = "sqrt cos sin tan arccos arcsin arctan log log10".split()


def rounded(wide):
    return np.ma.array(wide.data.astype(np.float32), mask=np.ma.getmaskarray(wide))


def power(x, y):
    """np.ma.power, computed in float64 and rounded once, so that no libm decides the last bit."""
    wide = np.ma.power(as_float(x).astype(np.float64), as_float(y).astype(np.float64))
    data, mask = wide.data.astype(np.float32), np.ma.getmaskarray(wide)
    return np.ma.array(data, mask=mask | ~np.isfinite(data))


def binary_arrays(name, x, y, at):
    """Two masked arrays of one shape, float32 or bool each."""
    both_bool = x.dtype == bool and y.dtype == bool
    if name in ("and", "or"):
        if not both_bool:
            raise Fault("impossible", at, f"`{name}` needs bool operands")
        return (np.ma.logical_and if name == "and" else np.ma.logical_or)(x, y)
    if name in COMPARISONS:
        return COMPARISONS[name](as_float(x), as_float(y))
    if both_bool and name == "sub":
        raise Fault("impossible", at, "`sub` of bool and bool")
    if both_bool and name in ("add", "mul"):
        return (np.ma.add if name == "add" else np.ma.multiply)(x, y)
    x, y = as_float(x), as_float(y)
    if name == "pow":
        return power(x, y)
    if name == "arctan2":
        return rounded(np.ma.arctan2(x.astype(np.float64), y.astype(np.float64)))
    if name == "normalized_difference":
        return np.ma.true_divide(np.ma.subtract(x, y), np.ma.add(x, y))
    return {
        "add": np.ma.add,
        "sub": np.ma.subtract,
        "mul": np.ma.multiply,
        "truediv": np.ma.true_divide,
        "floordiv": np.ma.floor_divide,
        "mod": np.ma.mod,
        "minimum": lambda a, b: joined(np.minimum, a, b),
        "maximum": lambda a, b: joined(np.maximum, a, b),
    }[name](x, y)


def joined(function, x, y):
    """A function of the data under the union of the masks."""
    mask = np.ma.getmaskarray(x) | np.ma.getmaskarray(y)
    return np.ma.array(function(x.data, y.data), mask=mask)


def binary_numbers(ev, name, x, y, at):
    """Two Python numbers: float64 all the way, rounded only when the result meets a raster."""
    if name in ("and", "or"):
        if not (isinstance(x, bool) and isinstance(y, bool)):
            raise Fault("impossible", at, f"`{name}` needs bool operands")
        return (x and y) if name == "and" else (x or y)
    if name in COMPARISONS:
        return bool(COMPARISONS[name](x, y))
    x, y = np.float64(x), np.float64(y)
    value = {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "truediv": np.true_divide,
        "floordiv": np.floor_divide,
        "pow": np.power,
        "arctan2": np.arctan2,
        "mod": np.mod,
        "minimum": np.minimum,
        "maximum": np.maximum,
        "normalized_difference": lambda a, b: (a - b) / (a + b),
    }[name](x, y)
    if not np.isfinite(value):
        raise AssertionError(f"{at}: no case may depend on {x} {name} {y}")
    return float(value)


def like(value, data):
    """A value with other data under the same metadata."""
    if isinstance(value, Raster):
        return Raster(data, value.props, value.margin)
    return Array(data, value.props, value.leading)


def result(values, data, props, margin):
    if any(isinstance(v, Raster) for v in values):
        # A reduction over pixels may have lent its images: the pad is what the properties say.
        return Raster(data, props, margin).on_domain()
    return Array(data, props, any(isinstance(v, Array) and v.leading for v in values))


def unary(ev, at, name, x):
    if is_number(x):
        return {"abs": np.abs, "neg": np.negative}[name](np.float64(x)).item()
    if name == "invert":
        if x.data.dtype != bool:
            raise Fault("impossible", at, "`invert` needs a bool operand")
        return like(x, np.ma.logical_not(x.data))
    if name == "neg" and x.data.dtype == bool:
        raise Fault("impossible", at, "`neg` of bool")
    return like(x, {"abs": np.ma.absolute, "neg": np.ma.negative}[name](x.data))


def binary_bands(operation, x, y):
    if x is None or y is None:
        return x if y is None else y
    if x == y:
        return x
    if len(x) == len(y) > 1:
        return [f"{p}_{operation}_{q}" for p, q in zip(x, y)]
    return y if len(x) == 1 else x


def binary_props(ev, at, operation, a, b, images, condition=None):
    """Properties of a combination of the graft's first and second operand; `images` of the result."""
    first = a.first_props() if isinstance(a, (Raster, Array)) else {}
    second = b.first_props() if isinstance(b, (Raster, Array)) else {}
    common = {"pad": common_pad(at, [a, b, condition])}
    bands = binary_bands(operation, names_of(first), names_of(second))
    if bands is not None:
        common["bands"] = bands
    product, other = first.get("product_id") or None, second.get("product_id") or None
    differs = product is not None and other is not None and product != other
    dropped = product is not None and product == other and not ev.keep_product
    if product is not None or other is not None:
        common["product_id"] = product if product is not None else other

    def finish(start, is_image):
        merged = {**start, **common}
        merged.pop("shape", None)
        if dropped:
            del merged["product_id"]
        if differs and is_image:
            merged["other_product_id"] = other
        elif differs:
            merged["other_product_ids"] = [*start.get("other_product_ids", []), other]
        return merged

    lists = [
        v.props for v in (a, b, condition) if isinstance(v, (Raster, Array)) and isinstance(v.props, list)
    ]
    if lists:
        # Two stacks: the first operand's list, unless it is one image spread over the second's.
        fitting = [of for of in lists if len(of) == images]
        return [finish(image, True) for image in fitting[0]]
    return finish(a.props if isinstance(a, (Raster, Array)) else {}, False)


def images_of(values, data):
    has_list = any(isinstance(v, (Raster, Array)) and isinstance(v.props, list) for v in values)
    return data.shape[0] if has_list else None


def binary(ev, at, name, a, b):
    operand(at, a)
    operand(at, b)
    plain = REFLECTED.get(name, name)
    if is_number(a) and is_number(b):
        x, y = (b, a) if name in REFLECTED else (a, b)
        return binary_numbers(ev, plain, x, y, at)
    (x, y), margin = broadcast(at, [a, b])
    x, y = (y, x) if name in REFLECTED else (x, y)
    data = binary_arrays(plain, x, y, at)
    props = binary_props(ev, at, OPERATIONS[plain], a, b, images_of([a, b], data))
    return result([a, b], data, props, margin)


def math(ev, at, name, a, b):
    expect(at, "name", name, str)
    own = IN_MATH.get(name, name)
    if name in ("gradient_x", "gradient_y"):
        from . import neighbours

        return neighbours.gradient(ev, at, own, a)
    if own in UNARY:
        if b is not None:
            raise Fault("invalid_request", at, f"`{name}` takes null as its second operand")
        return unary_op(own)(ev, at, a)
    if name in IN_MATH.values() or (own not in OPERATIONS and own not in REFLECTED):
        raise Fault("invalid_request", at, f"`math` has no operation `{name}`")
    return binary_op(own)(ev, at, a, b)


def unary_op(name):
    def op(ev, at, a):
        if ev.in_properties:
            from . import properties

            return properties.arithmetic(at, name, a)
        operand(at, a)
        return unary(ev, at, name, a)

    return op


def binary_op(name):
    def op(ev, at, a, b):
        if ev.in_properties:
            from . import properties

            return properties.arithmetic(at, name, a, b)
        return binary(ev, at, name, a, b)

    return op


def functional(ev, at, a, name):
    if name not in FUNCTIONS:
        raise Fault("invalid_request", at, f"`functional` has no function `{name}`")
    operand(at, a)
    function, outside = FUNCTIONS[name]
    if is_number(a):
        if outside is not None and outside(np.float64(a)):
            raise Fault("impossible", at, f"`{name}` of {a} has no value")
        return float(function(np.float64(a)))
    x = a.data.data.astype(np.float64)
    mask = np.ma.getmaskarray(a.data)
    values = function(x)
    if outside is not None:
        mask = mask | outside(x) | ~np.isfinite(values)
    return like(a, np.ma.array(values.astype(np.float32), mask=mask))


def clip(ev, at, a, lo, hi):
    operand(at, a)
    for name, value in (("lo", lo), ("hi", hi)):
        if not is_number(value):
            raise Fault("invalid_request", at, f"`{name}` must be a number")
    if not lo < hi:
        raise Fault("invalid_request", at, f"`lo` {lo} is not less than `hi` {hi}")
    if is_number(a):
        return min(max(a, lo), hi)
    data = np.clip(a.data.data.astype(np.float32), np.float32(lo), np.float32(hi))
    return like(a, np.ma.array(data, mask=np.ma.getmaskarray(a.data)))


def filled(ev, at, a, value):
    operand(at, a)
    if not is_number(value):
        raise Fault("invalid_request", at, "`value` must be a number")
    if is_number(a):
        return a
    data = np.where(np.ma.getmaskarray(a.data), a.data.dtype.type(value), a.data.data)
    return like(a, np.ma.array(data, mask=False))


def where(ev, at, condition, a, b):
    if ev.in_properties:
        return a if condition else b
    values = [condition, a, b]
    for value in values:
        operand(at, value)
    (c, x, y), margin = broadcast(at, values)
    if c.dtype != bool:
        raise Fault("impossible", at, "the condition must be bool")
    if not (x.dtype == bool and y.dtype == bool):
        x, y = as_float(x), as_float(y)
    mask = np.where(c.data, np.ma.getmaskarray(x), np.ma.getmaskarray(y)) | np.ma.getmaskarray(c)
    data = np.ma.array(np.where(c.data, x.data, y.data), mask=mask)
    # [D] those of `a` combined with `b`; the condition lends its images alone.
    props = binary_props(ev, at, "where", a, b, images_of(values, data), condition)
    return result(values, data, props, margin)


def isin(ev, at, a, values):
    if isinstance(values, str):
        values = json.loads(values)
    if ev.in_properties:
        return a in values
    operand(at, a)
    if not isinstance(values, list) or not all(is_number(v) for v in values):
        raise Fault("invalid_request", at, "`values` must be a list of numbers")
    data = a.data.data.astype(np.float32)
    found = np.zeros(data.shape, bool)
    for value in values:
        found |= data == np.float32(value)
    return like(a, np.ma.array(found, mask=np.ma.getmaskarray(a.data)))


def whole(a):
    """The values as integers, and where they are no whole numbers of 32 bits."""
    data = a.data.data.astype(np.float64)
    bad = ~((data >= 0) & (data < 2**32) & (data == np.floor(data)))
    return np.where(bad, 0, data).astype(np.int64), np.ma.getmaskarray(a.data) | bad


def bit(ev, at, a, position):
    operand(at, a)
    expect(at, "position", position, int)
    if not 0 <= position <= 31:
        raise Fault("invalid_request", at, f"`position` is {position}, not 0 to 31")
    values, mask = whole(a)
    return like(a, np.ma.array((values >> position & 1).astype(bool), mask=mask))


def bits(ev, at, a, start, count):
    operand(at, a)
    expect(at, "start", start, int)
    expect(at, "count", count, int)
    if not 0 <= start <= 31 or not 1 <= count <= 32 - start:
        raise Fault("invalid_request", at, f"{count} bits from {start} are not among 32")
    values, mask = whole(a)
    return like(a, np.ma.array((values >> start & ((1 << count) - 1)).astype(np.float32), mask=mask))


def mask(ev, at, data, mask):
    raster(at, "data", data)
    if isinstance(mask, Array):
        hides = array_mask(at, data, mask)
    else:
        raster(at, "mask", mask)
        if mask.data.dtype != bool:
            raise Fault("impossible", at, "the mask must be bool, not float32")
        if mask.is_stack and not data.is_stack:
            raise Fault("impossible", at, "an ImageStack cannot mask a Mosaic")
        if mask.band_count not in (1, data.band_count):
            raise Fault("impossible", at, f"a mask of {mask.band_count} bands on {data.band_count} bands")
        if mask.is_stack and mask.data.shape[0] != data.data.shape[0]:
            raise Fault("impossible", at, "mask and data differ in their number of images")
        common_pad(at, [data, mask])
        hides = np.broadcast_to(mask.with_margin(data.margin).data.filled(True), data.data.shape)
    hidden = np.ma.array(data.data.data, mask=np.ma.getmaskarray(data.data) | hides)
    return Raster(hidden, data.props, data.margin)


def array_mask(at, data, mask):
    if mask.data.dtype != bool:
        raise Fault("impossible", at, "the mask must be bool, not float32")
    (_, hides), _ = broadcast(at, [Raster(data.data, {"pad": data.margin}, data.margin), mask])
    if hides.shape != data.data.shape:
        raise Fault("impossible", at, "the mask is larger than the data")
    return hides.filled(True)


def array(ev, at, npy):
    expect(at, "npy", npy, str)
    try:
        values = np.load(io.BytesIO(base64.b64decode(npy, validate=True)), allow_pickle=False)
    except ValueError:
        raise Fault("invalid_request", at, "not the base64 of an .npy file") from None
    values = values if values.dtype == bool else values.astype(np.float32)
    return values.item() if values.ndim == 0 else Array(np.ma.array(values, mask=False), {})


def named_function(name):
    return lambda ev, at, a: functional(ev, at, a, name)


OPS = {
    "math": (math, ("name", "a", "b"), 2),
    "functional": (functional, ("a", "name"), 2),
    **{name: (binary_op(name), ("a", "b"), 2) for name in [*OPERATIONS, *REFLECTED]},
    **{name: (unary_op(name), ("a",), 1) for name in UNARY},
    **{name: (named_function(name), ("a",), 1) for name in FUNCTIONS},
    "clip": (clip, ("a", "lo", "hi"), 3),
    "filled": (filled, ("a", "value"), 2),
    "where": (where, ("condition", "a", "b"), 3),
    "isin": (isin, ("a", "values"), 2),
    "bit": (bit, ("a", "position"), 2),
    "bits": (bits, ("a", "start", "count"), 3),
    "mask": (mask, ("data", "mask"), 2),
    "array": (array, ("npy",), 1),
}

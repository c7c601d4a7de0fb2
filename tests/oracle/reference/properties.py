"""Conditions on images, and graft functions over their properties."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone

from . import reductions
from .values import Fault, Function, Groups, Raster, is_number

TIMES = (
    "acquired acquired_end created datetime end_datetime expires modified processing:datetime published "
    "start_datetime unpublished updated"
).split()
ORDERS = ("eq", "ne", "gt", "gte", "lt", "lte")


class Image(dict):
    """One image's properties, as a function sees them."""


def moment(text):
    """A date as an instant; without an offset it is UTC."""
    found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return found.replace(tzinfo=timezone.utc) if found.tzinfo is None else found.astimezone(timezone.utc)


# ---------------------------------------------------------------- JSON predicates


def predicate(at, value):
    """The function of an image's properties that a predicate stands for."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise reductions.callable_fault(at, "comparisons of properties") from None
    return lambda own: holds(at, value, own)


def holds(at, node, own):
    if isinstance(node, list):
        return all(holds(at, part, own) for part in node)
    if not isinstance(node, dict):
        raise Fault("invalid_request", at, f"`{node}` is no predicate")
    if "and" in node:
        return all([holds(at, part, own) for part in node["and"]])
    if "or" in node:
        return any([holds(at, part, own) for part in node["or"]])
    op, name = node["op"], node["name"]
    found = own.get(name)
    if op in ("isnull", "isnotnull"):
        return (found is None) == (op == "isnull")
    if op not in (*ORDERS, "prefix", "like", "ilike"):
        raise Fault("invalid_request", at, f"no comparison `{op}`")
    if found is None:
        return op == "ne"
    wanted = node["val"]
    if isinstance(found, list):
        if op == "ne":
            return not any(compared("eq", name, item, wanted) for item in found)
        return op not in ORDERS[2:] and any(compared(op, name, item, wanted) for item in found)
    return compared(op, name, found, wanted)


def compared(op, name, found, wanted):
    if op in ("prefix", "like", "ilike"):
        if not isinstance(found, str):
            return False
        if op == "prefix":
            return found.startswith(wanted)
        pattern = "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in wanted)
        flags = re.DOTALL | (re.IGNORECASE if op == "ilike" else 0)
        return re.fullmatch(pattern, found, flags) is not None
    if isinstance(found, str) and isinstance(wanted, str):
        if name in TIMES:
            found, wanted = moment(found), moment(wanted)
    elif isinstance(found, bool) != isinstance(wanted, bool) or not (is_number(found) and is_number(wanted)):
        return op == "ne"
    return {
        "eq": found == wanted,
        "ne": found != wanted,
        "gt": found > wanted,
        "gte": found >= wanted,
        "lt": found < wanted,
        "lte": found <= wanted,
    }[op]


# ---------------------------------------------------------------- functions over properties


def call(ev, at, function, own):
    ev.in_properties += 1
    try:
        return ev.apply(function, [Image(own)], {}, at)
    finally:
        ev.in_properties -= 1


def need(ev, at, name):
    if not ev.in_properties:
        raise Fault("invalid_request", at, f"`{name}` belongs into a function over properties")


PARTS = ("year", "month", "day", "hour", "minute", "second", "microsecond")


def attr(ev, at, x, name):
    need(ev, at, "attr")
    if x is None:
        return None
    if isinstance(x, Image):
        value = x.get(name)
        return moment(value) if isinstance(value, str) and name in TIMES else value
    if isinstance(x, datetime):
        if name in PARTS:
            return getattr(x, name)
        made = {
            "weekday": x.weekday,
            "isoweekday": x.isoweekday,
            "dayofyear": lambda: x.timetuple().tm_yday,
            "week": lambda: x.isocalendar().week,
            "date": lambda: x.date().isoformat(),
            "isoformat": x.isoformat,
        }
        if name in made:
            return made[name]()
    raise Fault("invalid_request", at, f"no attribute `{name}`")


def arithmetic(at, name, a, b=None):
    """Python's operators on the properties of one image."""
    if name in ("eq", "ne", "gt", "ge", "lt", "le"):
        if a is None or b is None:
            return name == "ne"
        if isinstance(a, datetime) and isinstance(b, str):
            b = moment(b)
        if isinstance(b, datetime) and isinstance(a, str):
            a = moment(a)
        return {
            "eq": lambda: a == b,
            "ne": lambda: a != b,
            "gt": lambda: a > b,
            "ge": lambda: a >= b,
            "lt": lambda: a < b,
            "le": lambda: a <= b,
        }[name]()
    return {
        "and": lambda: a and b,
        "or": lambda: a or b,
        "invert": lambda: not a,
        "add": lambda: a + b,
        "radd": lambda: b + a,
        "sub": lambda: a - b,
        "rsub": lambda: b - a,
        "mul": lambda: a * b,
        "rmul": lambda: b * a,
        "truediv": lambda: a / b,
        "rtruediv": lambda: b / a,
        "floordiv": lambda: a // b,
        "rfloordiv": lambda: b // a,
        "mod": lambda: a % b,
        "pow": lambda: a**b,
        "rpow": lambda: b**a,
        "neg": lambda: -a,
        "abs": lambda: abs(a),
    }[name]()


def op(name, function):
    def run(ev, at, *arguments):
        need(ev, at, name)
        try:
            return function(*arguments)
        except (AttributeError, TypeError) as error:  # a missing value has no methods
            raise Fault("impossible", at, str(error)) from error

    return run


def text(value):
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    return str(value)


def made_tuple(ev, at, *items):
    need(ev, at, "tuple")
    last = max((i for i, item in enumerate(items) if item is not None), default=-1)
    return tuple(items[: last + 1])


def groupby_data(ev, at, stack, key_function):
    if isinstance(key_function, str):
        raise reductions.callable_fault(at, "a graft function over an image's properties")
    if not isinstance(key_function, Function) or not isinstance(stack, Raster) or not stack.is_stack:
        raise Fault("invalid_request", at, "`groupby_data` needs an ImageStack and a function")
    groups = {}
    for own in stack.props:
        groups.setdefault(call(ev, at, key_function, own), []).append(own.get("id"))
    keys = list(groups)
    try:
        keys.sort()
    except TypeError:
        pass
    return Groups([[key, groups[key]] for key in keys])


OPS = {
    "groupby_data": (groupby_data, ("stack", "key_function"), 2),
    "attr": (attr, ("x", "name"), 2),
    "tuple": (made_tuple, tuple("abcdefgh"), 1),
    "item": (op("item", lambda x, i: x[i]), ("x", "i"), 2),
    "slice": (op("slice", lambda x, start, stop: x[start:stop]), ("x", "start", "stop"), 1),
    "startswith": (op("startswith", lambda x, p: x.startswith(p)), ("x", "prefix"), 2),
    "endswith": (op("endswith", lambda x, p: x.endswith(p)), ("x", "suffix"), 2),
    "contains": (op("contains", lambda x, p: p in x), ("x", "part"), 2),
    "split": (op("split", lambda x, by: x.split(by)), ("x", "separator"), 1),
    "upper": (op("upper", lambda x: x.upper()), ("x",), 1),
    "lower": (op("lower", lambda x: x.lower()), ("x",), 1),
    "strip": (op("strip", lambda x: x.strip()), ("x",), 1),
    "replace": (op("replace", lambda x, old, new: x.replace(old, new)), ("x", "old", "new"), 3),
    "strftime": (op("strftime", lambda x, form: x.strftime(form)), ("x", "format"), 2),
    "str": (op("str", text), ("x",), 1),
    "int": (op("int", int), ("x",), 1),
    "float": (op("float", float), ("x",), 1),
    "len": (op("len", len), ("x",), 1),
    "is_null": (op("is_null", lambda x: x is None), ("x",), 1),
}

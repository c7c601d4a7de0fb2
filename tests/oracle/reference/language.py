"""Names, scopes, functions and calls; the ops live in the other modules."""

from __future__ import annotations

import numpy as np

from . import elementwise, linear, neighbours, properties, reductions, sources
from .values import Builtin, Fault, Function, Scope, step

RESERVED = ("returns", "parameters")

# Every op: its function of (evaluator, place, **arguments), its parameters, how many are required.
OPS = {
    **sources.OPS,
    **elementwise.OPS,
    **reductions.OPS,
    **neighbours.OPS,
    **linear.OPS,
    **properties.OPS,
}


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


class Evaluator:
    """Evaluates grafts in a world.

    `arrays`: the world's pixels by name, which begin with `prefix`. `parameters`: values for the names that
    stand where a date is expected. `keep_product`: does binary math of a product with itself keep it?
    """

    def __init__(self, world, arrays, keep_product, parameters=None, prefix=""):
        self.world, self.arrays, self.prefix = world, arrays, prefix
        self.products = {p["id"]: (i, p) for i, p in enumerate(world["products"])}
        self.keep_product = keep_product
        self.parameters = parameters or {}
        self.rows, self.cols = world["grid"]["rows"], world["grid"]["cols"]
        # True where a pixel of the grid lies outside the outline of the area; None without an outline.
        self.outside = None
        # Above zero while a function over properties runs: numbers are Python's there.
        self.in_properties = 0

    def run(self, graft):
        check_body(graft, "")
        bound = {}
        for name in graft.get("parameters", []):
            if name not in self.parameters:
                raise Fault("invalid_request", "/parameters", f"parameter `{name}` has no value")
            bound[name] = self.parameters[name]
        with np.errstate(all="ignore"):
            return self.returned(Scope(graft, None, "", bound))

    def pixels(self, product, image):
        index = self.products[product["id"]][0]
        name = f"{self.prefix}{index}_{image['id']}"
        return self.arrays[f"{name}_data"], self.arrays[f"{name}_mask"]

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
            if name in OPS:
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
        op, parameters, required = OPS[name]
        named = {key: value for key, value in named.items() if key != "cache_id"}
        given = dict(zip(parameters, positional))
        if len(positional) > len(parameters):
            message = f"`{name}` takes {len(parameters)} arguments, {len(positional)} given"
            raise Fault("invalid_request", at, message)
        for key, value in named.items():
            if key not in parameters:
                raise Fault("invalid_request", at, f"`{name}` has no argument `{key}`")
            if key in given:
                raise Fault("invalid_request", at, f"`{name}` has its argument `{key}` twice")
            given[key] = value
        for key in parameters[:required]:
            if key not in given:
                raise Fault("invalid_request", at, f"`{name}` lacks its argument `{key}`")
        return op(self, at, *(given.get(key) for key in parameters))

"""Writing grafts: nested tuples to keys, as the client and as a person would."""

from __future__ import annotations

import base64
import io
import json

import numpy as np

CLIENT_HASH = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


class Key(str):
    """The name of a key, where a plain string would become a string literal."""


class Body(dict):
    """A graft function, where a plain dict would be named arguments."""


class Builder:
    """Grafts from nested tuples: `(op, argument, ..., {name: argument})`. Equal expressions share a key."""

    def __init__(self, first=0, stride=1, cache_ids=False):
        self.next, self.stride, self.cache_ids = first, stride, cache_ids
        self.graft, self.known = {}, {}

    def expression(self, node):
        if not isinstance(node, tuple):
            return node
        op, *rest = node
        named = rest.pop() if rest and type(rest[-1]) is dict else {}
        if self.cache_ids and not isinstance(op, Body):
            named = {**named, "cache_id": CLIENT_HASH}
        keys = [self.key(argument) for argument in rest]
        result = [self.key(op) if isinstance(op, Body) else str(op), *keys]
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


def function(parameters, node):
    """A graft function; its parameters stand in `node` as `Key`s."""
    builder = Builder()
    returns = builder.key(node)
    return Body({"parameters": list(parameters), "returns": returns, **builder.graft})


def array(values, dtype="<f8", order="C"):
    """An `array` with these values, as the client sends it."""
    stream = io.BytesIO()
    np.save(stream, np.asarray(values, dtype=dtype, order=order))
    return ("array", base64.b64encode(stream.getvalue()).decode())


def quoted(value):
    """JSON that is data, not an expression."""
    return [value]

"""Grafts whose form is the point."""

from __future__ import annotations

from ..grafts import graft_of, written
from .shorthand import (
    math,
    one,
    over_images,
    stack,
    three,
    two,
)


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

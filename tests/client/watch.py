"""Looks at every answer that the client gets: pickles hold nothing that could run."""

from __future__ import annotations

import pickletools

import requests

# Whatever else a pickle names, it could do harm with.
ALLOWED = {
    "numpy.ma.core _mareconstruct",
    "numpy.ma.core MaskedArray",
    "numpy ndarray",
    "numpy dtype",
}
seen = {"pickles": 0, "errors": []}


def names(pickle):
    """What a pickle imports."""
    texts, found = [], set()
    for opcode, argument, _ in pickletools.genops(pickle):
        if isinstance(argument, str) and opcode.name != "GLOBAL":
            texts.append(argument)
        if opcode.name in ("GLOBAL", "INST"):
            found.add(argument)
        elif opcode.name == "STACK_GLOBAL":
            found.add(" ".join(texts[-2:]))
        elif opcode.name in ("EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID"):
            found.add(opcode.name)
    return found


def look(response, **_):
    path = response.url.split("?")[0]
    if path.endswith("/aoi") and response.ok:
        unknown = names(response.content) - ALLOWED
        assert not unknown, f"a response imports {sorted(unknown)}"
        seen["pickles"] += 1
    elif response.status_code >= 400:
        seen["errors"].append(response)
    return response


def start():
    """From now on, whoever sends."""
    plain = requests.Session.send

    def send(self, request, **more):
        return look(plain(self, request, **more))

    requests.Session.send = send

"""Writes random grafts over random small worlds, with what they are: a folder that the `oracle` test reads.

    python generate.py FOLDER --seed 1 --cases 500

worlds.json    grids, and per product its scenes; `at` is where a scene's pixels begin in worlds.npz
worlds.npz     `data` float32 and `mask` bool: all pixels of all scenes in one row
cases.json     as in golden/arrays, with `world`, `shape`, and where values and mask begin; `outline`: corners of
               the area in columns and rows from the grid's upper left
expected.npz   `numbers` float32, `bools` and `masks` bool: the values of all cases in one row each

The same seed gives the same folder. Sizes: a world for every `--per-world` cases.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from oracle.grafts import graft_of  # noqa: E402
from oracle.reference import Evaluator, is_number  # noqa: E402
from oracle.steps import Steps  # noqa: E402
from oracle.store import case_of, json_bytes, npz_bytes  # noqa: E402
from oracle.worlds import outside_of, random_outline, random_pixels, random_world  # noqa: E402


class Writer:
    """A folder under way."""

    def __init__(self):
        self.worlds, self.cases = [], []
        self.data, self.mask = [], []
        self.rows = {"numbers": [], "bools": [], "masks": []}
        self.ends = dict.fromkeys(["pixels", "numbers", "bools", "masks"], 0)

    def add_world(self, world, arrays):
        """Takes a world; `arrays` are its pixels by name."""
        for index, product in enumerate(world["products"]):
            for scene in product["scenes"]:
                name = f"{index}_{scene['id']}"
                scene["at"] = self.ends["pixels"]
                self.data.append(arrays[f"{name}_data"].ravel())
                self.mask.append(arrays[f"{name}_mask"].ravel())
                self.ends["pixels"] += self.data[-1].size
        self.worlds.append(world)

    def add(self, case, pixels):
        case["world"] = len(self.worlds) - 1
        if pixels is not None:
            data, mask = pixels
            row = "bools" if data.dtype == bool else "numbers"
            case.update(shape=list(data.shape), data_at=self.ends[row], mask_at=self.ends["masks"])
            for name, values in ((row, data), ("masks", mask)):
                self.rows[name].append(values.ravel())
                self.ends[name] += values.size
        self.cases.append(case)

    def write(self, folder):
        folder.mkdir(parents=True, exist_ok=True)

        def joined(parts, dtype):
            return np.concatenate([*parts, np.zeros(0, dtype)]).astype(dtype)

        pixels = {"data": joined(self.data, np.float32), "mask": joined(self.mask, bool)}
        expected = {n: joined(p, np.float32 if n == "numbers" else bool) for n, p in self.rows.items()}
        (folder / "worlds.json").write_bytes(json_bytes(self.worlds))
        (folder / "worlds.npz").write_bytes(npz_bytes(pixels))
        (folder / "cases.json").write_bytes(json_bytes(self.cases))
        (folder / "expected.npz").write_bytes(npz_bytes(expected))


def generate(seed, count, per_world, largest, longest):
    writer = Writer()
    for number in range(count):
        if number % per_world == 0:
            rng = random.Random(f"{seed}/{number // per_world}")
            world = random_world(rng, largest)
            arrays = {}
            for index, product in enumerate(world["products"]):
                for scene in product["scenes"]:
                    data, mask = random_pixels(rng, scene)
                    arrays[f"{index}_{scene['id']}_data"] = data
                    arrays[f"{index}_{scene['id']}_mask"] = mask
            writer.add_world(world, arrays)
        rng = random.Random(f"{seed}/case/{number}")
        outline = random_outline(rng, world["grid"]) if rng.random() < 0.15 else None
        outside = None if outline is None else outside_of(outline, world["grid"])

        def evaluator(keep, parameters=None):
            made = Evaluator(world, arrays, keep, parameters)
            made.outside = outside
            return made

        drawn = Steps(rng, evaluator(True), world)
        node = drawn.graft(longest)
        options = {
            "first": rng.choice([0, 0, 1000]),
            "stride": rng.choice([1, 1, 3]),
            "cache_ids": rng.random() < 0.3,
        }
        graft = graft_of(node.tree, **options)
        # From the graft alone: the answer does not rest on how it was drawn.
        results = [evaluator(keep, drawn.parameters).run(graft) for keep in (False, True)]
        if is_number(results[0]) and not np.isfinite(results[0]):
            continue
        known = {"ulps": node.ulps, "ignore": node.ignore, "parameters": drawn.parameters}
        known.update(outline=outline, outside=outside)
        case, pixels = case_of(f"{seed}/{number}", graft, *results, known)
        writer.add(case, pixels)
    return writer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--per-world", type=int, default=20)
    parser.add_argument("--largest", type=int, default=20, help="most rows and columns of a grid")
    parser.add_argument("--longest", type=int, default=10, help="most steps of a graft")
    options = parser.parse_args()
    writer = generate(options.seed, options.cases, options.per_world, options.largest, options.longest)
    writer.write(options.folder)
    print(f"{len(writer.cases)} cases in {len(writer.worlds)} worlds: {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

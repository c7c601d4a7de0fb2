"""The programs in `../shared/compat/grafts`, which the real client made: each is taken, or refused with help."""

from __future__ import annotations

import json
import os
import unittest
from pathlib import Path

import requests

HOST = os.environ["API_HOST"]
GRAFTS = sorted(Path(os.environ["GRATICULE_SHARED"]).glob("compat/grafts/*.json"))


class Captured(unittest.TestCase):
    def test_they_are_all_there(self):
        self.assertGreater(len(GRAFTS), 60)

    def test_layers(self):
        for path in GRAFTS:
            with self.subTest(path.stem):
                case = json.loads(path.read_text())
                body = {
                    "graft": case["graft"],
                    "python_version": case["python_version"],
                    "dynamic_compute_version": case["client_version"],
                }
                answer = requests.post(f"{HOST}/layers/", json=body, timeout=60)
                if case.get("callables"):
                    said = answer.json()
                    self.assertEqual((answer.status_code, said.get("code")), (422, "unsupported"), said)
                    self.assertIn("pickled", said["message"])
                    self.assertTrue(said["path"].startswith("/"), said)
                else:
                    self.assertEqual(answer.status_code, 200, answer.content)
                    first = answer.json()["layer_id"]
                    again = requests.post(f"{HOST}/layers/", json=body, timeout=60).json()["layer_id"]
                    self.assertEqual(first, again)


if __name__ == "__main__":
    unittest.main()

"""Points the published client at a server: three environment variables, before it is imported.

import connect
connect.to("http://127.0.0.1:8080")
import descarteslabs.dynamic_compute as dc
"""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile

ORG, USER = "example-org", "0123456789abcdef0123456789abcdef01234567"


def token(**claims):
    """What the client takes for credentials: three parts, the middle one with an end that is to come.

    Nobody has signed it. A server that asks nobody who they are takes it; one that does, refuses it.
    """
    claims = {"exp": 4102444800, "org": ORG, "userid": USER, **claims}
    parts = [{"alg": "none", "typ": "JWT"}, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "unsigned"])


def to(url, catalog="/catalog/v2", credentials=None):
    """Sets the variables. `catalog` is where below `url` the client looks for products."""
    if "descarteslabs.dynamic_compute" in sys.modules:
        raise RuntimeError("the client reads its variables when it is imported: connect first")
    for name in ("EARTHONE_CLIENT_ID", "EARTHONE_CLIENT_SECRET", "EARTHONE_REFRESH_TOKEN"):
        os.environ.pop(name, None)
    os.environ.update(
        {
            "API_HOST": url.rstrip("/"),
            "EARTHONE_CATALOG_V2_URL": url.rstrip("/") + catalog,
            "EARTHONE_TOKEN": credentials or token(),
            # Not the files of whoever runs this, no proxy, no window.
            "EARTHONE_TOKEN_INFO_PATH": os.path.join(tempfile.gettempdir(), "no-such-token.json"),
            "NO_PROXY": "127.0.0.1,localhost",
            "MPLBACKEND": "Agg",
        }
    )

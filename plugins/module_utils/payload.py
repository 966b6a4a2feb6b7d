# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Data as text that travels in one option of a module, opaque to whatever would show or log it."""

from __future__ import annotations

import base64
import json
import zlib


def pack(value: dict | list) -> str:
    """Turn data into text; bytes are kept in it by surrogate escapes."""
    return base64.b64encode(zlib.compress(json.dumps(value).encode("ascii"), 6)).decode("ascii")


def unpack(payload: str) -> dict | list:
    """The data that pack() was given."""
    return json.loads(zlib.decompress(base64.b64decode(payload)))

"""Make the checkout importable as ``ansible_collections.groundwork.django``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / ".ansible" / "collections"))

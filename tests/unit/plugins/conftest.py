"""Make the checkout importable as ``ansible_collections.groundwork.django``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / ".ansible" / "collections"))

"""Make the README's pictures from a demo that is up: its pages in headless Chromium, its terminal output as SVG.

Usage: pictures.py LOG      LOG is what `make demo` printed; writes docs/images/{site.png,demo.svg}
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
DOMAIN = "forge.demo.test"
CHROMIUM = (
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"),
)


def picture_of_site(target: Path) -> None:
    """Take a picture of the demo's first page, as a browser that trusts its certificate would show it."""
    config = (ROOT / ".demo" / "ssh_config").read_text(encoding="utf-8")
    address = re.search(r"HostName (\S+)", config)[1]
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                *CHROMIUM,
                f"--user-data-dir={profile}",
                f"--host-resolver-rules=MAP {DOMAIN} {address}",
                "--ignore-certificate-errors",
                "--window-size=1280,940",
                f"--screenshot={target}",
                f"https://{DOMAIN}/",
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )


def picture_of_terminal(log: Path, target: Path) -> None:
    """Draw what a terminal showed; fonts are the reader's own, so nothing is fetched from elsewhere."""
    lines = log.read_text(encoding="utf-8").strip("\n").splitlines()
    console = Console(record=True, width=max(map(len, lines)) + 2, file=io.StringIO())
    console.print(Text("$ make demo\n" + "\n".join(lines)))
    drawing = console.export_svg(title="make demo")
    drawing = re.sub(r"@font-face \{.*?\}\s*", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r"<!--.*?-->\s*", "", drawing, flags=re.DOTALL)
    target.write_text(drawing.replace("Fira Code", "monospace"), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    IMAGES.mkdir(exist_ok=True)
    picture_of_terminal(Path(sys.argv[1]), IMAGES / "demo.svg")
    picture_of_site(IMAGES / "site.png")

"""A page in headless Chromium: its size, what lies on what, and what the console says."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import zlib
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from d2lrnn.pages.svg import DARK, LIGHT

CHROMIUM = shutil.which("chromium")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (Debian's package chromium)"
)

#: Nothing is asked of the network, and nothing stays behind.
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--allow-file-access-from-files",
]  # fmt: skip

#: A window is never narrower than 500 pixels, so the page stands in a frame, which may be.
FRAME = """<!DOCTYPE html><html><head><meta name="color-scheme" content="light dark">
<style>body { margin: 0 } iframe { display: block; border: 0 }</style></head>
<body><iframe width="WIDTH" height="900" src="page.html"></iframe></body></html>"""

#: What the browser itself says of the page: how wide it is, and of the texts in figures, which lie on one
#: another and how small the smallest is, as it is shown.
MEASURE = """<script>addEventListener("load", () => {
  const overprinted = []; let smallest = Infinity, texts = 0, shown = 0;
  for (const figure of document.querySelectorAll("svg[viewBox]")) {
    const frame = figure.getBoundingClientRect();
    if (!frame.width) continue;
    shown++;
    const scale = frame.width / figure.viewBox.baseVal.width, boxes = [];
    for (const text of figure.querySelectorAll("text")) {
      const box = text.getBoundingClientRect();
      smallest = Math.min(smallest, scale * parseFloat(getComputedStyle(text).fontSize));
      for (const [other, name] of boxes)
        if (box.left < other.right - 1 && other.left < box.right - 1 &&
            box.top < other.bottom - 4 && other.top < box.bottom - 4)
          overprinted.push(`${text.textContent} | ${name}`);
      if (box.left < frame.left - 1 || box.right > frame.right + 1) overprinted.push(text.textContent);
      boxes.push([box, text.textContent]); texts++;
    }
  }
  const root = document.documentElement;
  const wide = [...document.querySelectorAll("table")].filter(table => table.offsetWidth > root.clientWidth);
  parent.document.body.dataset.found = JSON.stringify({
    width: innerWidth, page: root.scrollWidth, space: root.clientWidth, overprinted, smallest, texts, shown,
    wide: wide.length,
    loose: wide.filter(table => getComputedStyle(table.parentElement).overflowX !== "auto").length,
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    folded: [...document.querySelectorAll("details")].every(box => !box.open),
  });
})</script>"""


class Look(NamedTuple):
    """What a browser made of a page."""

    found: dict[str, Any]
    console: list[str]
    size: tuple[int, int]
    background: str


def look(text: str, width: int, scheme: str, folder: Path) -> Look:
    """Opens a page in a window that is 900 pixels high."""
    assert CHROMIUM is not None
    frame, picture = folder / "frame.html", folder / "page.png"
    frame.write_text(FRAME.replace("WIDTH", str(width)), encoding="utf-8")
    (folder / "page.html").write_text(text.replace("</body>", f"{MEASURE}</body>"), encoding="utf-8")
    done = subprocess.run(
        [
            CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900",
            f"--blink-settings=preferredColorScheme={int(scheme == 'light')}", f"--screenshot={picture}",
            "--dump-dom", frame.as_uri(),
        ],
        capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=300, check=True,
    )  # fmt: skip
    found = re.search(r'<body data-found="([^"]*)"', done.stdout)
    assert found is not None, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Look(json.loads(unescape(found[1])), console, *_picture(picture.read_bytes()))


def check_look(seen: Look, width: int, scheme: str) -> None:
    """What holds for every page: it fills the window, nothing sticks out, no text is on another."""
    assert seen.console == []
    assert seen.size == (width, 900)
    assert seen.background == {"light": LIGHT, "dark": DARK}[scheme]["page"]
    assert seen.found["width"] == width
    assert seen.found["dark"] is (scheme == "dark")
    assert seen.found["page"] <= seen.found["space"]
    assert seen.found["loose"] == 0
    assert seen.found["overprinted"] == []


def _picture(png: bytes) -> tuple[tuple[int, int], str]:
    """Width, height, and the colour of the corner: what a filter of PNG adds to a first pixel is nothing."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, parts = 8, {}
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind = png[at + 4 : at + 8]
        parts[kind] = parts.get(kind, b"") + png[at + 8 : at + 8 + length]
        at += 12 + length
    width, height = struct.unpack(">II", parts[b"IHDR"][:8])
    corner = zlib.decompress(parts[b"IDAT"])[1:4]
    return (width, height), f"#{corner.hex()}"

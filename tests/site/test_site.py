"""The site that `nox -s docs` has built: whole, and of no use of the network."""

from __future__ import annotations

import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import FunctionType
from urllib.parse import unquote, urlsplit

import pytest

import d2lrnn
from d2lrnn.cli.commands import TABLE

ROOT = Path(__file__).parents[2]
SITE = Path(os.environ.get("D2LRNN_SITE", ROOT / "build" / "docs"))

#: What a browser loads by itself, by element and attribute; of a `link` those that say what it is for.
LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("use", "href")}
FOR_READERS = {"index", "search", "next", "prev", "canonical"}


class Links(HTMLParser):
    """What a page loads, where it leads, and the places in it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.places: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.places |= {values[name] for name in ("id", "name") if name in values}
        self.loads += [value for name, value in values.items() if (tag, name) in LOADED]
        if tag == "link" and values.get("rel") not in FOR_READERS:
            self.loads.append(values.get("href", ""))
        self.leads += [value for name, value in values.items() if (tag, name) == ("a", "href")]


@pytest.fixture(scope="module")
def pages() -> dict[Path, Links]:
    found = {page.resolve(): Links(page) for page in sorted(SITE.rglob("*.html"))}
    assert len(found) > 20, f"{SITE} has no site: nox -s docs builds it"
    return found


def test_no_page_loads_anything_from_elsewhere(pages: dict[Path, Links]) -> None:
    found = [f"{page.name}: {url}" for page, links in pages.items() for url in links.loads if _outside(url)]
    assert found == []


def _outside(url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.netloc) or parts.scheme not in ("", "data")


def test_no_style_loads_anything_from_elsewhere() -> None:
    styles = list(SITE.rglob("*.css"))
    assert styles
    for style in styles:
        text = style.read_text(encoding="utf-8")
        for url in re.findall(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)", text):
            assert not _outside("".join(url)), f"{style.name}: {url}"


def test_every_link_inside_the_site_leads_somewhere(pages: dict[Path, Links]) -> None:
    for page, links in pages.items():
        for url in links.leads:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert target.exists(), f"{page.name}: {url}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].places, f"{page.name}: {url}"


def test_every_page_of_the_folder_is_in_the_site() -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        if page.stem == "cells":
            continue  # a part of the page on models
        assert (SITE / page.relative_to(ROOT / "docs")).with_suffix(".html").is_file(), page


def test_every_public_name_is_in_the_reference(pages: dict[Path, Links]) -> None:
    places = {place for page, links in pages.items() if "reference" in page.parts for place in links.places}
    missing = {name for name in d2lrnn.__all__ if f"d2lrnn.{name}" not in places}
    assert missing == set()
    contract = [_public(path.stem) for path in (ROOT / "d2lrnn" / "contract").glob("*.py")]
    assert {name for names in contract for name in names if name not in places} == set()


def _public(module: str) -> set[str]:
    """What a module of the contract defines for others, but for what `d2lrnn` has."""
    if module == "__init__":
        return set()
    name = f"d2lrnn.contract.{module}"
    __import__(name)
    return {
        f"{name}.{each}"
        for each, value in vars(sys.modules[name]).items()
        if isinstance(value, (type, FunctionType)) and value.__module__ == name and not each.startswith("_")
    } - {f"{name}.{each}" for each in d2lrnn.__all__}


def test_every_command_is_in_the_reference() -> None:
    page = (SITE / "generated" / "command-line.html").read_text(encoding="utf-8")
    usages = set(re.findall(r"usage: (d2lrnn(?: [a-z-]+)*)", re.sub(r"<[^>]*>", "", page)))
    commands = {f"d2lrnn {name}" for group in TABLE.values() for name in group}
    assert usages == {"d2lrnn", *commands, "d2lrnn translate train", "d2lrnn translate run"}

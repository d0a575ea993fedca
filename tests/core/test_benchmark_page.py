"""The benchmark's page in a browser: its size at two widths, light and dark, and what the console says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from browser import check_look, look, needs_chromium

from d2lrnn.benchmark.html import page
from d2lrnn.benchmark.table import gather

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "bench.json"

pytestmark = [pytest.mark.slow, needs_chromium]


@pytest.fixture(scope="module")
def shown() -> str:
    """The page of the kept results, of whose samples some are enough."""
    document = json.loads(RESULTS.read_text(encoding="utf-8"))
    for row in document["rows"]:
        for what in ("steps", "forward", "floor"):
            if row.get(what):
                row[what] = row[what][:5]
    return page(gather(document))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_looks_as_it_should(shown: str, width: int, scheme: str, tmp_path: Path) -> None:
    seen = look(shown, width, scheme, tmp_path)
    check_look(seen, width, scheme)
    found = seen.found
    assert (found["wide"] > 0) is (width == 400)  # else nothing was shown of how tables scroll
    assert found["texts"] > 300
    # Of the steps and of memory, at two settings, the figure for other screens is hidden.
    assert found["shown"] == shown.count("<svg xmlns") - 4
    assert found["smallest"] >= 11
    assert found["folded"]


def test_what_is_wrong_with_a_page_is_seen(shown: str, tmp_path: Path) -> None:
    broken = shown.replace('class="scroll"', 'class="loose"')
    broken = broken.replace("</body>", '<script>console.error("a word on the console")</script></body>')
    broken = re.sub(r'(<text [^>]*x=")[\d.]+(" [^>]*text-anchor="end")', r"\g<1>150\2", broken)
    broken = re.sub(r'(<text [^>]*y=")[\d.]+(" [^>]*text-anchor="end")', r"\g<1>150\2", broken)
    seen = look(broken, 400, "light", tmp_path)
    assert any("a word on the console" in line for line in seen.console)
    assert seen.found["page"] > seen.found["space"]
    assert seen.found["loose"] > 0
    assert seen.found["overprinted"]

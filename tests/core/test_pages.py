"""The pages of docs/ run, and the commands that other pages mention have these options."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import check_commands, run_page

ROOT = Path(__file__).parents[2]

#: Their code needs a framework: they run in tests/parity and tests/backends.
ELSEWHERE = {"6-backends", "explain-a-difference", "export", "move-a-layer", "plain-torch"}
PAGES = [page for page in sorted(ROOT.glob("docs/*/*.md")) if page.parent.name in ("tutorial", "how-to")]
RUN_HERE = [page for page in PAGES if page.stem not in ELSEWHERE]
MENTIONING = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *PAGES]


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_HERE, ids=_name)
def test_a_page_shows_what_comes(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(page)


@pytest.mark.parametrize("page", MENTIONING, ids=_name)
def test_commands_have_the_options_that_a_page_gives_them(page: Path) -> None:
    check_commands(page)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\nprint(1)\n```\nis\n```text\n2\n```\n", "Expected:"),
        ("```bash\necho 1; false; echo 2\n```\n", "exit code 1"),
        ("```text\n2\n```\n", "follows no block that runs"),
        ("```pyhton\n1 / 0\n```\n", "which is none of"),
    ],
)  # fmt: skip
def test_a_page_that_is_wrong_fails(text: str, message: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises((AssertionError, pytest.fail.Exception), match=message):
        run_page(page)


def test_a_command_with_an_option_that_is_not_there_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("    pip install . && d2lrnn train --sell gru   # one letter\n", encoding="utf-8")
    with pytest.raises(pytest.fail.Exception, match="train --sell gru"):
        check_commands(page)

"""The help: commands in groups, and examples that the parser takes."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from d2lrnn.cli.commands import TABLE
from d2lrnn.cli.main import main
from d2lrnn.cli.parser import parse
from d2lrnn.registry import BACKENDS

COMMANDS = [name for group in TABLE.values() for name in group]
HELPS = [*([name] for name in COMMANDS), ["translate", "train"], ["translate", "run"]]


def _help(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", HELPS, ids=" ".join)
def test_every_command_has_examples_that_are_parsed(
    command: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["config"]) == 0
    (tmp_path / "run.toml").write_text(capsys.readouterr().out)  # for the example of config
    examples = _help(capsys, *command).partition("\nexamples:\n")[2].splitlines()
    assert examples
    for example in examples:
        assert len(example) <= 80
        lines = [shlex.split(line) for line in re.findall(r"\bd2lrnn ([^>&|)]+)", example)]
        assert lines, example
        assert any(line[: len(command)] == command for line in lines)
        for line in lines:
            request = parse(line)
            assert is_dataclass(request)
            assert fields(request)


def test_the_commands_are_shown_in_groups(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = _help(capsys)
    heading, _, rest = shown.partition("\ncommands:\n")
    assert "usage: d2lrnn [-h] [--version] COMMAND ..." in heading
    assert re.findall(r"^  (\S.*):$", rest, re.MULTILINE) == list(TABLE)
    assert re.findall(r"^    (\S+) +\S", rest, re.MULTILINE) == COMMANDS
    assert rest.endswith("\nd2lrnn COMMAND --help shows its options, and examples.\n")
    assert max(map(len, shown.splitlines())) <= 80


def test_a_command_has_its_modules() -> None:
    folder = Path(__file__).parents[2] / "d2lrnn" / "cli" / "commands"
    shared = {"__init__", "argument_parser", "options", "request"}
    assert {path.stem for path in folder.glob("*.py")} - shared == {
        name.replace("-", "_") for name in COMMANDS
    }


def test_the_formats_of_an_export_are_those_of_the_backends(capsys: pytest.CaptureFixture[str]) -> None:
    """The help names them itself: the table of backends imports NumPy."""
    shown = " ".join(_help(capsys, "export").split())
    formats = [entry.exports for entry in BACKENDS if entry.exports]
    assert f"--to FORMAT {', '.join(formats[:-1])} or {formats[-1]} (default" in shown

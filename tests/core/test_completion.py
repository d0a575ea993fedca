"""``d2lrnn completion``: what a real shell completes with it."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from d2lrnn.cli import completion
from d2lrnn.cli.commands.completion import CompletionRequest
from d2lrnn.cli.completion import _VALUES
from d2lrnn.cli.main import main
from d2lrnn.cli.parser import parser_for
from d2lrnn.contract.cells import cell_names
from d2lrnn.contract.optimizers import OPTIMIZERS
from d2lrnn.training.schedules import SCHEDULES

pytest.importorskip("argcomplete", reason="argcomplete is not installed here")

#: Loads what is printed, and completes a line as a tab at its end does.
BASH = """eval "$(d2lrnn completion bash)"
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9
read -ra COMP_WORDS <<< "$1"
[[ $1 == *' ' ]] && COMP_WORDS+=("")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
_python_argcomplete d2lrnn "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" 2> /dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH on which ``d2lrnn`` is this one."""
    program = tmp_path / "bin" / "d2lrnn"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m d2lrnn "$@"\n')
    program.chmod(0o755)
    return f"{program.parent}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize(("line", "completed"), [
    ("d2lrnn tra", {"train", "translate"}),
    ("d2lrnn train --out", {"--out", "--output-dropout"}),
    ("d2lrnn train --cell ", {*cell_names()}),
    ("d2lrnn train --cell lst", {"lstm"}),
    ("d2lrnn train --impl=con", {"concise"}),
    ("d2lrnn train --optimizer ", {*OPTIMIZERS}),
    ("d2lrnn train --schedule c", {name for name in SCHEDULES if name.startswith("c")}),
    ("d2lrnn train --iterator s", {"sliding", "sequential"}),
    ("d2lrnn train --tokens ", {"char", "word", "byte", "bpe"}),
    ("d2lrnn train --pat", {"--patience"}),
    ("d2lrnn train --pl", {"--plot"}),
    ("d2lrnn train --tensorboard ru", {"runs/"}),
    ("d2lrnn lr", {"lr-find"}),
    ("d2lrnn lr-find --max", {"--max-lr"}),
    ("d2lrnn lr-find --optimizer ad", {"adam", "adamw", "adagrad"}),
    ("d2lrnn train --backend nu", {"numpy"}),
    ("d2lrnn train --config ru", {"run.toml", "runs/"}),
    ("d2lrnn train --resume ru", {"runs/"}),
    ("d2lrnn generate ru", {"runs/"}),
    ("d2lrnn translate train --no-at", {"--no-attention"}),
    ("d2lrnn completion ", {*CompletionRequest.SHELLS}),
    ("d2lrnn nonsense --x", set()),
])  # fmt: skip
def test_bash_completes(line: str, completed: set[str], path: str, tmp_path: Path) -> None:
    bash = _program("bash")
    (tmp_path / "here" / "runs").mkdir(parents=True)
    (tmp_path / "here" / "run.toml").touch()
    done = subprocess.run(
        [bash, "--norc", "-c", BASH, "bash", line], capture_output=True, text=True, check=True,
        cwd=tmp_path / "here", env={**os.environ, "PATH": path},
    )  # fmt: skip
    assert done.stderr == ""
    found = {each.strip() for each in done.stdout.splitlines()} - {""}
    assert {each for each in found if not each.startswith("-") or line[-1] != " "} == completed


#: What the other shells make of the beginning of a line, which bash shows in full.
LINES = {
    "d2lrnn train --cell lst": ["lstm"],
    "d2lrnn train --impl=con": ["--impl=concise"],
    "d2lrnn generate ru": ["runs/"],
    "d2lrnn translate train --no-at": ["--no-attention"],
    "d2lrnn nonsense --x": [],
}


def _program(shell: str) -> str:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed here")
    return program


def test_fish_completes(path: str, tmp_path: Path) -> None:
    fish = _program("fish")
    (tmp_path / "runs").mkdir()
    code = "d2lrnn completion fish | source; for line in $argv; complete -C $line; echo .; end"
    done = subprocess.run(
        [fish, "--no-config", "-c", code, *LINES], capture_output=True, text=True, check=True,
        cwd=tmp_path, env={**os.environ, "PATH": path, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.stderr == ""
    answers = [answer.strip().splitlines() for answer in done.stdout.split(".\n")[:-1]]
    assert [[each.split("\t")[0] for each in answer] for answer in answers] == list(LINES.values())


#: zsh completes at a terminal alone; Ctrl-X shows the line as it is then.
ZSH = """unsetopt prompt_cr prompt_sp; PS1=; autoload -Uz compinit; compinit -u -D
eval "$(d2lrnn completion zsh)"
show() { print -r -- "<${BUFFER}>"; BUFFER= }; zle -N show; bindkey '^X' show
"""


def test_zsh_completes(path: str, tmp_path: Path) -> None:
    zsh = _program("zsh")
    (tmp_path / "runs").mkdir()
    ours, terminal = pty.openpty()
    shell = subprocess.Popen(
        [zsh, "-f", "-i"], stdin=terminal, stdout=terminal, stderr=terminal, cwd=tmp_path,
        start_new_session=True,
        env={**os.environ, "PATH": path, "HOME": str(tmp_path), "TERM": "dumb"},
    )  # fmt: skip
    os.close(terminal)
    try:
        os.write(ours, ZSH.encode())
        for line, completed in LINES.items():
            os.write(ours, f"{line}\t\x18".encode())
            shown = ""
            while not (found := re.search(r"<(d2lrnn .*)>", shown)):
                shown += os.read(ours, 4096).decode()
            begun = line.rpartition(" ")[0]
            assert found[1].rstrip() == (f"{begun} {completed[0]}" if completed else line)
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


@pytest.mark.parametrize("shell", CompletionRequest.SHELLS)
def test_the_lines_are_valid_in_their_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    lines = capsys.readouterr().out
    assert "d2lrnn" in lines
    subprocess.run([_program(shell), "-n"], input=lines, text=True, check=True)


def test_every_value_that_is_completed_is_one_of_an_option() -> None:
    words = ["train", "translate", "completion"]
    names: set[str] = set()
    parsers = [parser_for(words)]
    while parsers:
        for action in parsers.pop()._actions:
            names.add(action.dest)
            if isinstance(action.choices, dict):
                parsers.extend(action.choices.values())
    assert set(_VALUES) <= names
    for values in _VALUES.values():
        assert list(values())


def test_an_unknown_shell_and_a_missing_package(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["completion", "csh"]) == 2
    assert "unknown shell 'csh': choose one of bash, zsh, fish" in capsys.readouterr().err
    monkeypatch.setattr(completion, "find_spec", lambda _: None)
    assert main(["completion", "bash"]) == 2
    assert capsys.readouterr().err.endswith("not installed here: pip install argcomplete\n")


def test_a_tab_imports_no_numpy(tmp_path: Path) -> None:
    code = """
import os, sys
os.environ |= {"_ARGCOMPLETE": "1", "COMP_LINE": "d2lrnn train --cel", "COMP_POINT": "18"}
os.environ["_ARGCOMPLETE_STDOUT_FILENAME"] = "answer"
real = os._exit
def exited(code):
    print([m for m in ("numpy", "safetensors", "rich") if m in sys.modules])
    sys.stdout.flush()
    real(code)
os._exit = exited
import argcomplete.finders
argcomplete.CompletionFinder.__call__.__defaults__ = tuple(
    exited if each is real else each for each in argcomplete.CompletionFinder.__call__.__defaults__
)
from d2lrnn.cli.main import main
sys.argv = ["d2lrnn"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "[]\n", done.stderr
    assert (tmp_path / "answer").read_text().strip() == "--cell"

"""The script of docs/workers.md, started as an engine's launcher does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from workers.conftest import BACKEND

from d2lrnn.workers.engine import Engine

PAGE = Path(__file__).parents[2] / "docs" / "workers.md"


def test_the_script_of_the_page(engine: Engine, tmp_path: Path) -> None:
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    script = tmp_path / "train.py"
    script.write_text(found[1])
    places, servers = engine.environments(2)
    common = {**os.environ, "D2LRNN_BACKEND": BACKEND}
    for name in engine.unset:
        common.pop(name, None)
    served = [
        subprocess.Popen([sys.executable, "-c", f"import {engine.server_module}"], env={**common, **each})
        for each in servers
    ]
    try:
        workers = [
            subprocess.Popen([sys.executable, str(script)], env={**common, **each}, stdout=subprocess.PIPE)
            for each in places
        ]
        printed = [worker.communicate(timeout=300)[0].decode().split() for worker in workers]
        assert [worker.returncode for worker in workers] == [0, 0]
    finally:
        for each in [*served, *workers]:
            each.kill()
            each.communicate()
    alone = script.read_text().replace('workers = backend.join_workers("cpu")', "workers = None")
    alone = alone.replace("workers.rank == 0", "True").replace("workers.close()", "")
    one = subprocess.run([sys.executable, "-c", alone], env=common, stdout=subprocess.PIPE, check=True)
    assert sorted(map(len, printed)) == [0, 1]
    assert float((printed[0] or printed[1])[-1]) == pytest.approx(float(one.stdout.split()[-1]), rel=1e-6)

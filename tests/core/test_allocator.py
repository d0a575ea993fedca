"""Freed memory is kept."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_CODE = """
import contextlib, io, resource, sys
if sys.argv[1] == "kept":
    from d2lrnn.allocator import keep_freed_memory
    assert keep_freed_memory()
elif sys.argv[1] == "kept by the command line":
    from d2lrnn.cli.main import main
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["backends"]) == 0
def step():
    # Larger than what the C library ever keeps by itself; not NumPy's, which asks for huge pages.
    return [bytearray(b"x") * 40_000_000 for _ in range(4)]
step(), step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
def test_what_a_step_frees_the_next_one_has_without_a_page_fault() -> None:
    faults = {}
    for how in ("kept", "kept by the command line", "not kept"):
        command = [sys.executable, "-c", _CODE, how]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        faults[how] = int(done.stdout)
    assert faults["kept"] < 100
    assert faults["kept by the command line"] < 100
    assert faults["not kept"] > faults["kept"] + 100

"""What is put in place for chapters on PyTorch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

if os.environ.get("D2LRNN_BACKEND") != "torch":
    pytest.skip("for PyTorch alone", allow_module_level=True)

import torch

from d2lrnn.chapters.runner import load_tab, run_chapter
from d2lrnn.chapters.source import Chapter

CELLS = """\
```{.python .input}
%%tab pytorch
import torch
from d2l import torch as d2l
rnn = d2l.RNNScratch(4, 3)
outputs, H = rnn(torch.ones(5, 2, 4))
d2l.check_len(outputs, 5)
```

```{.python .input}
%%tab pytorch
torch.stack(outputs, 0).shape == (5, 2, 3) and torch.stack(outputs, 1).shape == (2, 5, 3)
```

```{.python .input}
%%tab pytorch
torch.cat(outputs, dim=0).shape == (10, 3) and torch.stack((H, H)).shape == (2, 2, 3)
```
"""


def test_the_outputs_of_all_steps_can_be_stacked(tmp_path: Path) -> None:
    (tmp_path / "own.md").write_text(CELLS)
    stack = torch.stack
    library, restored = load_tab("pytorch")
    run = run_chapter(Chapter(tmp_path / "own.md"), "pytorch", library, restored=restored)
    assert [result.error for result in run.results] == [None] * 3
    assert [result.value for result in run.results] == [None, "True", "True"]
    assert torch.stack is stack
    with pytest.raises(TypeError):
        torch.stack(torch.ones(2, 3))  # type: ignore[arg-type]

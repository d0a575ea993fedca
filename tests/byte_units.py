"""The units whose tokens are bytes; that of byte-pair encoding where its package is installed."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

needs_tokenizers = pytest.mark.skipif(find_spec("tokenizers") is None, reason="needs the package tokenizers")
UNITS = ["byte", pytest.param("bpe", marks=needs_tokenizers)]

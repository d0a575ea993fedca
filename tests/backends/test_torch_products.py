"""PyTorch's two libraries for matrix products give the same numbers, whichever is taken."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from d2lrnn_torch import products  # noqa: E402
from d2lrnn_torch.products import affine, plus, times, weight_gradient  # noqa: E402
from torch import nn  # noqa: E402

#: 128³ multiplications are twice as many as oneDNN is worth calling for.
WIDE = 128


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of what oneDNN multiplied: without any, a test would compare `torch.mm` with itself."""
    shapes: list[tuple[int, ...]] = []
    linear = products._LINEAR
    if linear is None:
        pytest.skip("this build of PyTorch has no oneDNN")

    def recording(left: torch.Tensor, *rest: object) -> torch.Tensor:
        shapes.append(tuple(left.shape))
        return linear.default(left, *rest)

    monkeypatch.setattr(products, "_LINEAR", SimpleNamespace(default=recording))
    return shapes


def _drawn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


@pytest.mark.parametrize("layout", ["rows", "transposed", "columns of a wider one"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_both_are_the_product(taken: list[tuple[int, ...]], side: str, layout: str) -> None:
    def laid_out(rows: int, columns: int) -> torch.Tensor:
        return {
            "rows": lambda: _drawn(rows, columns),
            "transposed": lambda: _drawn(columns, rows).t(),
            "columns of a wider one": lambda: _drawn(rows, 2 * columns)[:, 5 : 5 + columns],
        }[layout]()

    left = laid_out(WIDE, WIDE + 1) if side == "left" else _drawn(WIDE, WIDE + 1)
    right = laid_out(WIDE + 1, WIDE + 2) if side == "right" else _drawn(WIDE + 1, WIDE + 2)
    addend = _drawn(WIDE, 3 * WIDE)[:, : WIDE + 2]
    exact = left.double() @ right.double()
    torch.testing.assert_close(times(left, right).double(), exact, rtol=0, atol=1e-4)
    torch.testing.assert_close(plus(addend, left, right).double(), addend + exact, rtol=0, atol=1e-4)
    into = torch.empty(WIDE, WIDE + 2)
    assert plus(addend, left, right, out=into) is into
    torch.testing.assert_close(into.double(), addend + exact, rtol=0, atol=1e-4)
    torch.testing.assert_close(plus(addend[0], left, right).double(), addend[0] + exact, rtol=0, atol=1e-4)
    assert len(taken) == 4


def test_small_and_exact_ones_are_left_to_pytorch(taken: list[tuple[int, ...]]) -> None:
    times(_drawn(32, 32), _drawn(32, 32))
    times(_drawn(WIDE, WIDE, dtype=torch.float64), _drawn(WIDE, WIDE, dtype=torch.float64))
    times(_drawn(WIDE * WIDE, WIDE).t(), _drawn(WIDE * WIDE, 8))
    assert taken == []
    times(_drawn(WIDE, WIDE), _drawn(WIDE, WIDE))
    assert taken == [(WIDE, WIDE)]


@pytest.mark.parametrize(
    ("columns", "others", "laid_out"),
    [(WIDE, WIDE + 1, WIDE), (WIDE + 1, WIDE, WIDE), (WIDE, 3, 3), (3, WIDE, 3)],
)
def test_the_narrower_factor_of_a_gradient_is_laid_out_anew(
    taken: list[tuple[int, ...]], columns: int, others: int, laid_out: int
) -> None:
    left, right = _drawn(40 * WIDE, columns), _drawn(40 * WIDE, others)
    gradient = weight_gradient(left, right)
    torch.testing.assert_close(gradient.double(), left.double().t() @ right.double(), rtol=0, atol=1e-3)
    assert taken == [(laid_out, 40 * WIDE)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_affine_is_a_linear_layer(taken: list[tuple[int, ...]], dtype: torch.dtype) -> None:
    layer = nn.Linear(WIDE, WIDE + 1, dtype=dtype)
    X = _drawn(8, WIDE // 8, WIDE, dtype=dtype).requires_grad_()
    weights = _drawn(8, WIDE // 8, WIDE + 1, dtype=dtype)
    leaves = [X, layer.weight, layer.bias]
    got, expected = affine(X, layer.weight.t(), layer.bias), layer(X)
    assert len(taken) == (dtype is torch.float32)
    tolerance = 1e-4 if dtype is torch.float32 else 1e-12
    torch.testing.assert_close(got, expected, rtol=0, atol=tolerance)
    for one, other in zip(
        torch.autograd.grad((got * weights).sum(), leaves),
        torch.autograd.grad((expected * weights).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)
    assert len(taken) == 3 * (dtype is torch.float32)


def test_without_the_operator_all_is_pytorchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = _drawn(WIDE, WIDE), _drawn(WIDE, WIDE)
    monkeypatch.setattr(products, "_LINEAR", None)
    assert torch.equal(times(left, right), left @ right)

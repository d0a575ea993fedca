"""Whether matrix products are right: a test without a tolerance.

Products of matrices of small integers have one right answer, whatever the order of the sums: float32 holds
every whole number up to 2**24. Entries reach from -7 to 7, which types with a short mantissa hold as well, so
that it is the product that is judged. How many bits of the factors it keeps is asked apart: a matrix times a
permutation is the matrix itself, with its columns in another order.

A backend's package may have a module ``verification`` with a function ``products``::

    def products(device: str) -> dict[str, Product]:
        # The products that the framework has, by what it calls them, with its settings as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from d2lrnn.contract.values import DType, FloatArray

#: ``product(left, right, transpose_left, transpose_right)``: the product of two matrices, each of them as it
#: lies in memory or transposed. NumPy's arrays in and out, in the type of the factors.
Product: TypeAlias = Callable[[FloatArray, FloatArray, bool, bool], FloatArray]

#: (m, k, n): odd sizes that end in the middle of a block, and sizes that are cut into blocks and threads.
_SMALL = ((1, 7, 5), (17, 33, 65), (127, 129, 131))
_LARGE = ((513, 384, 257), (256, 512, 640))
_TRANSPOSED = ((False, False), (True, False), (False, True))

#: What entries may be at most; k of their products sum up to a number that float32 holds.
_MOST = 7

#: The bits of a mantissa, with the one that is not written.
MANTISSA: dict[DType, int] = {"float32": 24, "float64": 53}
_WIDTH = 192

#: The bits that are left where factors are rounded to a shorter type before they are multiplied.
_SHORTER = {11: "TF32 or float16", 8: "bfloat16"}


@dataclass(frozen=True)
class ProductCheck:
    """What was found of one product in one type.

    Attributes:
        product: what the framework calls it.
        dtype: the type of the factors.
        fault: what is wrong; None where every number is right.
        bits: how many bits of the mantissa it keeps of its factors.
    """

    product: str
    dtype: DType
    fault: str | None
    bits: int

    @property
    def rounds(self) -> bool:
        """Whether it rounds its factors before it multiplies them."""
        return self.bits < MANTISSA[self.dtype]

    @property
    def rounding(self) -> str:
        """How it rounds, where it does: ``keeps 11 of 24 bits of its factors, as TF32 or float16``."""
        like = _SHORTER.get(self.bits)
        return (
            f"{self.product} in {self.dtype} keeps {self.bits} of {MANTISSA[self.dtype]} bits of its factors"
            + (f", as {like} does" if like else "")
        )


def check_products(products: Mapping[str, Product]) -> Iterator[ProductCheck]:
    """Tries every product in both types.

    Example:
        >>> def product(left, right, transpose_left, transpose_right):
        ...     return (left.T if transpose_left else left) @ (right.T if transpose_right else right)
        >>> [check.bits for check in check_products({"numpy": product})]
        [24, 53]
    """
    for name, product in products.items():
        for dtype, bits in MANTISSA.items():
            fault = _wrong(product, dtype) or _loses_nan(product, dtype)
            yield ProductCheck(name, dtype, fault, bits if fault else _bits_kept(product, dtype))


def _wrong(product: Product, dtype: DType) -> str | None:
    draw = np.random.RandomState(2)
    for sizes, transposed in [*((each, _TRANSPOSED[:1]) for each in _SMALL),
                              *((each, _TRANSPOSED) for each in _LARGE)]:  # fmt: skip
        m, k, n = sizes
        left, right = (draw.randint(-_MOST, _MOST + 1, shape) for shape in ((m, k), (k, n)))
        exact = left @ right  # whole numbers are multiplied by NumPy's own loop, and by no BLAS
        for flags in transposed:
            found = _multiplied(product, left.astype(dtype), right.astype(dtype), flags)
            if found.shape != exact.shape:
                return f"({m}, {k}) times ({k}, {n}) has the shape {found.shape}"
            wrong = found != exact
            if wrong.any():
                return (
                    f"({m}, {k}) times ({k}, {n}){_said(flags)}: {np.count_nonzero(wrong)} of {m * n} "
                    f"entries are wrong, one of them by {np.abs(found - exact)[wrong].max():g}"
                )
    return None


def _loses_nan(product: Product, dtype: DType) -> str | None:
    """A NaN in a factor is in its whole row of the product, and nowhere else."""
    m, k, n = _SMALL[1]
    left, right = np.ones((m, k), dtype), np.ones((k, n), dtype)
    left[m // 2, k // 2] = np.nan
    found = np.isnan(_multiplied(product, left, right, (False, False)))
    expected = np.zeros((m, n), bool)
    expected[m // 2] = True
    if (found == expected).all():
        return None
    return "it loses a NaN" if (found < expected).any() else "it spreads a NaN to rows that have none"


def _bits_kept(product: Product, dtype: DType) -> int:
    """By the largest error of a product with a permutation, on either side."""
    draw = np.random.RandomState(3)
    order = draw.permutation(_WIDTH)
    permutation = np.eye(_WIDTH, dtype=dtype)[order]
    wide = draw.uniform(1, 2, (_WIDTH, _WIDTH)).astype(dtype)
    pairs = (
        (_multiplied(product, permutation, wide, (False, False)), wide[order]),
        (_multiplied(product, wide, permutation.T.copy(), (False, False)), wide[:, order]),
    )
    error = max(float(np.abs(found.astype(np.float64) / exact - 1).max()) for found, exact in pairs)
    # A number in [1, 2) that is rounded to p bits is off by 2**-p of itself at most, one that is cut by twice
    # that: between the two the next whole number is meant.
    return MANTISSA[dtype] if error == 0 else min(MANTISSA[dtype] - 1, round(-np.log2(error)))


def _multiplied(
    product: Product, left: FloatArray, right: FloatArray, transposed: tuple[bool, bool]
) -> FloatArray:
    """The product, of factors that lie in memory transposed where they are to be transposed back."""
    left, right = (
        np.ascontiguousarray(factor.T if flag else factor)
        for factor, flag in zip((left, right), transposed, strict=True)
    )
    return product(left, right, *transposed)


def _said(transposed: tuple[bool, bool]) -> str:
    which = [side for side, flag in zip(("left", "right"), transposed, strict=True) if flag]
    return f", the {which[0]} one transposed" if which else ""

"""What the book's packages import for other chapters, and what stands in for it where it is missing."""

from __future__ import annotations

from types import ModuleType
from typing import Any

#: Modules that nothing in the recurrent chapters uses.
UNUSED = (
    "IPython", "PIL", "gym", "matplotlib_inline", "pandas", "requests", "scipy", "scipy.spatial",
    "tensorflow", "tensorflow_datasets", "torchvision",
)  # fmt: skip


class Nothing(ModuleType):
    """A module in which every name is such a module, which may be called."""

    __path__: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing(f"{self.__name__}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> None: ...

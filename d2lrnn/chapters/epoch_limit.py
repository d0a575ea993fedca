"""Fewer epochs than a chapter asks for, so that a quick look takes minutes, not an hour.

The cells' syntax trees are changed, not the library: ``max_epochs=100`` becomes ``max_epochs=2``.
"""

from __future__ import annotations

import ast

_NAMES = ("num_epochs", "max_epochs")
_TRAINER = "Trainer"


def cap_epochs(tree: ast.Module, most: int) -> bool:
    """Lowers, in place, the numbers of epochs in a cell to at most `most`.

    These are integers assigned to ``num_epochs`` or ``max_epochs`` (also side by side with others:
    ``num_epochs, lr = 500, 1``), keyword arguments and defaults of these names, and the first argument of a
    ``Trainer(...)``.

    Returns:
        Whether there was a larger one.

    Example:
        >>> tree = ast.parse("Trainer(max_epochs=500, gradient_clip_val=1)")
        >>> cap_epochs(tree, 2)
        True
        >>> ast.unparse(tree)
        'Trainer(max_epochs=2, gradient_clip_val=1)'
    """
    before = ast.dump(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                _assigned(target, node.value, most)
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
            _assigned(node.target, node.value, most)
        elif isinstance(node, ast.Call):
            _called(node, most)
        elif isinstance(node, ast.arguments):
            _defaults(node, most)
    return ast.dump(tree) != before


def _assigned(target: ast.expr, value: ast.expr, most: int) -> None:
    if isinstance(target, (ast.Tuple, ast.List)) and isinstance(value, (ast.Tuple, ast.List)):
        for inner, its_value in zip(target.elts, value.elts, strict=False):
            if isinstance(inner, ast.Starred):
                return
            _assigned(inner, its_value, most)
    elif _name(target) in _NAMES:
        _lower(value, most)


def _called(call: ast.Call, most: int) -> None:
    for keyword in call.keywords:
        if keyword.arg in _NAMES:
            _lower(keyword.value, most)
    if _name(call.func) == _TRAINER and call.args:
        _lower(call.args[0], most)


def _defaults(arguments: ast.arguments, most: int) -> None:
    positional = [*arguments.posonlyargs, *arguments.args]
    with_default = positional[len(positional) - len(arguments.defaults) :]
    pairs = [*zip(with_default, arguments.defaults, strict=True)]
    for argument, default in [*pairs, *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]:
        if argument.arg in _NAMES and default is not None:
            _lower(default, most)


def _name(expression: ast.expr) -> str | None:
    """``x`` of ``x`` and of ``something.x``."""
    if isinstance(expression, ast.Attribute):
        return expression.attr
    return expression.id if isinstance(expression, ast.Name) else None


def _lower(value: ast.expr, most: int) -> None:
    if isinstance(value, ast.Constant) and type(value.value) is int:
        value.value = min(value.value, most)

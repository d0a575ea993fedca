"""Where a statement of Python goes on, line by line: within brackets, in a string, after a backslash."""

from __future__ import annotations

import re

_SIGN = re.compile(r"""\#|'{3}|"{3}|['"()\[\]{}]""")
_END = {quote: re.compile(rf"(?:[^\\]|\\.)*?{quote}") for quote in ("'", '"', "'''", '"""')}


class StatementScanner:
    """Follows the lines of a cell. It looks at each line once: a cell can have thousands.

    Example:
        >>> scanner = StatementScanner()
        >>> scanner.feed("x = (7")
        >>> scanner.is_open
        True
    """

    def __init__(self) -> None:
        self._depth, self._quote, self._backslash = 0, "", False

    @property
    def is_open(self) -> bool:
        """Whether the last statement goes on in the next line."""
        return self._depth > 0 or self._quote != "" or self._backslash

    def feed(self, line: str) -> None:
        """Follows the next line, which comes without its end."""
        ends_in_comment = self._follow(line)
        self._backslash = line.endswith("\\") and not ends_in_comment
        if len(self._quote) == 1 and not self._backslash:
            self._quote = ""  # such a string ends with its line, or this is no Python

    def _follow(self, line: str) -> bool:
        """Counts brackets and quotes; whether the line ends with a comment."""
        position = 0
        while position < len(line):
            if self._quote:
                end = _END[self._quote].match(line, position)
                if end is None:
                    return False
                position, self._quote = end.end(), ""
                continue
            sign = _SIGN.search(line, position)
            if sign is None:
                return False
            if sign[0] == "#":
                return True
            position = sign.end()
            if sign[0] in "([{":
                self._depth += 1
            elif sign[0] in ")]}":
                self._depth = max(0, self._depth - 1)
            else:
                self._quote = sign[0]
        return False

"""The book's own markup, as the Markdown that notebooks show.

The book's sources are Markdown with additions of its build tool: names of sections and figures, references
to them, citations, and marks around the text that goes on slides. A notebook shows those as they stand.
"""

from __future__ import annotations

import re
from collections.abc import Callable

#: Marks of text for slides: [**text**], (**text**) and (~~text~~), over several lines too.
_SLIDES = re.compile(
    r"\[\*\*(?P<text>.*?)\*\*\]|\(\*\*(?P<bold>.*?)\*\*\)|\(~~(?P<hidden>.*?)~~\)", re.DOTALL
)

#: ``:numref:`sec_rnn```, the other roles alike; or code: a fenced block, or what stands between backquotes.
_ROLE_OR_CODE = re.compile(
    r":(?P<role>[a-z]+):`(?P<name>[^`\n]*)`"
    r"|^(?P<indent>[ \t]*)(?P<fence>```+|~~~+).*?^(?P=indent)(?P=fence)[ \t]*$"
    r"|(?P<quotes>`+)[^`\n](?:[^\n]*?[^`\n])??(?P=quotes)(?!`)",
    re.DOTALL | re.MULTILINE,
)


def to_markdown(text: str) -> str:
    r"""A chapter's text without the markup that only the book's build tool knows.

    Example:
        >>> to_markdown("# Units\n:label:`sec_units`\n\nAs in :numref:`sec_rnn`, [**they add up**].")
        '# Units\n<a id="sec_units"></a>\n\nAs in [sec_rnn](#sec_rnn), **they add up**.'
    """
    code: list[str] = []

    def replaced(found: re.Match[str]) -> str:
        if found["role"] in _ROLES:
            return _ROLES[found["role"]](found["name"])
        # Code stays as it is, and may stand inside a mark.
        code.append(found[0])
        return f"\0{len(code) - 1}\0"

    text = _ROLE_OR_CODE.sub(replaced, text.replace("\0", ""))
    text = _SLIDES.sub(lambda found: found["hidden"] or f"**{found['text'] or found['bold']}**", text)
    return re.sub("\0([0-9]+)\0", lambda found: code[int(found[1])], text)


def _anchor(name: str) -> str:
    return f'<a id="{name}"></a>'


def _link(name: str) -> str:
    return f"[{name}](#{name})"


#: What becomes of a role's name.
_ROLES: dict[str, Callable[[str], str]] = {
    "label": _anchor,
    "eqlabel": _anchor,
    "numref": _link,
    "ref": _link,
    "eqref": _link,
    "cite": lambda name: f"({name})",
    "citet": lambda name: name,
    "width": lambda name: "",
    "height": lambda name: "",
}

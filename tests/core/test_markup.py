"""The book's markup as Markdown."""

from __future__ import annotations

import pytest

from d2lrnn.chapters.markup import to_markdown


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("# A\n:label:`sec_a`\n", '# A\n<a id="sec_a"></a>\n'),
        ("$$x$$\n:eqlabel:`eq_x`", '$$x$$\n<a id="eq_x"></a>'),
        ("see :numref:`fig_a-b`, :eqref:`eq_x`", "see [fig_a-b](#fig_a-b), [eq_x](#eq_x)"),
        (
            "as in :citet:`Cho.2014` or :cite:`Cho.2014,Graves.2013`",
            "as in Cho.2014 or (Cho.2014,Graves.2013)",
        ),
        ("![](a.svg)\n:width:`400px`\n", "![](a.svg)\n\n"),
        ("[**one**] (**two**) (~~three~~)", "**one** **two** three"),
        ("[**over\ntwo lines**]", "**over\ntwo lines**"),
        ("## [**with `code` inside**]", "## **with `code` inside**"),
        ("code `f(**kwargs)` and `[**no**]`", "code `f(**kwargs)` and `[**no**]`"),
        ("``a ` b`` :ref:`c`", "``a ` b`` [c](#c)"),
        ("```\n[**no**] :label:`no`\n```\n[**yes**]", "```\n[**no**] :label:`no`\n```\n**yes**"),
        # A translator left a quote open: what follows on other lines is no code.
        ("an open ` quote\n:numref:`a`", "an open ` quote\n[a](#a)"),
        (":unknown:`x` and 12:30", ":unknown:`x` and 12:30"),
        ("a [link](b) and (*c*)", "a [link](b) and (*c*)"),
    ],
)
def test_the_books_markup(text: str, markdown: str) -> None:
    assert to_markdown(text) == markdown
    assert to_markdown(markdown) == markdown

"""Write HTML without a template engine: elements are function calls, and text is escaped unless it is `Html`.

In: names, content, attributes. Out: `Html`. So a text that came from a dataset or a file can never become markup: the
only strings that are not escaped are those `element` has made, and `Html(...)` where a page says so itself. What pages
look like is not known here.
"""

import html
from collections.abc import Iterable

Attribute = str | int | float | bool | None
Content = object
"""`Html` as it is; None as nothing; lists, tuples and generators one after the other; all else as escaped text."""

_EMPTY = frozenset({"img", "meta", "wbr"})  # those written here that HTML closes itself; shapes of an SVG are not


class Html(str):
    """A string that is HTML."""

    __slots__ = ()


def element(name: str, /, *content: Content, **attributes: Attribute) -> Html:
    """<name attributes>content</name>. class_ is `class`, aria_label `aria-label`; None and False leave one out."""
    shown = "".join(
        f" {_name(key)}" + ("" if value is True else f'="{html.escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Html(f"<{name}{shown}>" if name in _EMPTY else f"<{name}{shown}>{joined(content)}</{name}>")


def joined(content: Content) -> Html:
    """Content one after the other."""
    if content is None:
        return Html()
    if isinstance(content, Html):
        return content
    if isinstance(content, str):
        return Html(html.escape(content))
    if isinstance(content, Iterable):
        return Html("".join(map(joined, content)))
    return Html(html.escape(str(content)))


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")

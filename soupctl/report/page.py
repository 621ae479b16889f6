"""The page of a report: HTML in one file, which needs no network and runs nothing.

Rule 1: every text from a file, a name or a message is escaped, by `text` of `sections.py`.
Rule 2: a policy in the page forbids scripts and every request, so a browser would stop them too.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import PurePath

from ..frozen import frozen
from .facts import SoupFacts
from .sections import component_sections, journal_section, text
from .style import STYLE

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@frozen
class SamplePicture:
    """A picture to show, as it is in its file."""

    name: str
    kind: str
    """Its media type."""
    data: bytes


def page_of(facts: SoupFacts, pictures: Sequence[SamplePicture] = ()) -> str:
    """The report as an HTML page."""
    name = PurePath(facts.soup).name or facts.soup
    body = "\n".join(_body(facts, name, pictures))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{text(name)} - soup report</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def _body(facts: SoupFacts, name: str, pictures: Sequence[SamplePicture]) -> Iterator[str]:
    yield f"<header><h1>{text(name)}</h1>"
    yield '<p class="lead">What this soup is made of, and how far that is proven.</p></header>'
    for component in facts.components:
        yield from component_sections(component, is_only=len(facts.components) == 1)
    for journal in facts.journals:
        yield from journal_section(journal)
    if pictures:
        yield '<section><h2>Samples</h2><div class="cards samples">'
        for each in pictures:
            source = f"data:{each.kind};base64,{b64encode(each.data).decode()}"
            shown = f'<img src="{source}" alt="Images from {text(each.name)}">'
            yield f'<figure class="card">{shown}'
            yield f"<figcaption>{text(each.name)}</figcaption></figure>"
        yield "</div></section>"

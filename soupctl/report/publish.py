"""Writing a report: one file, whole or not at all."""

from __future__ import annotations

from pathlib import Path

from ..diffusion.libraries import require_extra
from ..errors import InputError, OutputError
from ..storage.atomic import publish_bytes
from ..storage.files import read_file
from ..storage.place import place_of, refusing
from ..workers import ExecutionOptions
from .facts import ReportRequest, SoupFacts, soup_facts

BEGINNINGS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
}
PAGE = b"<!doctype html>"
"""How a page begins, in lower case."""
LARGEST_SAMPLE = 64 << 20
"""Bytes of a picture, which a third more become in the page."""


def report(
    asked: ReportRequest,
    output: Path,
    *,
    force: bool = False,
    execution: ExecutionOptions | None = None,
) -> SoupFacts:
    """Write the page about a soup, and return what it tells.

    `force` replaces an existing page. Raises OutputError for an existing file that is not such a
    page, LimitError without the libraries that draw, and what `soup_facts` raises; then there is no
    page, or the old one.
    """
    require_extra()
    # only now, because these load the libraries that draw
    from .page import SamplePicture, page_of  # noqa: PLC0415

    with place_of(output) as place:
        place.require_free(output, force)
    used = [Path(asked.soup), *map(Path, asked.ingredients), *asked.journals, *asked.samples]
    if output.exists() and any(each.exists() and each.samefile(output) for each in used):
        raise OutputError("is also an input", path=output, advice="choose another output")
    _require_page(output)
    pictures = [SamplePicture(each.name, *_picture(each)) for each in asked.samples]
    facts = soup_facts(asked, execution)
    page = page_of(facts, pictures).encode("utf-8", "backslashreplace")
    publish_bytes(output, page, replace=force)
    return facts


def _require_page(output: Path) -> None:
    """Raise OutputError for a file with other content, which may be an ingredient."""
    if output.is_file():
        with refusing(output), output.open("rb") as file:
            beginning = file.read(len(PAGE))
        if beginning and beginning.lower() != PAGE:
            what = "is no page, and a report replaces pages only"
            raise OutputError(what, path=output, advice="choose another output")


def _picture(path: Path) -> tuple[str, bytes]:
    """The media type and the bytes of a picture; InputError for another file."""
    data = read_file(path, limit=LARGEST_SAMPLE)
    for beginning, kind in BEGINNINGS.items():
        if data.startswith(beginning):
            return kind, data
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp", data
    raise InputError("is no PNG, JPEG or WebP picture", path=path)

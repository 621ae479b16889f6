"""Pictures that commands write."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError


def free_picture(target: str, *, force: bool) -> Path:
    """The path of a picture that can be written.

    Raises UsageError for another kind of file, OutputError if it exists and is not to be replaced,
    LimitError without the libraries that draw.
    """
    from ..diffusion.libraries import require_extra
    from ..storage.place import place_of

    require_extra()
    if not target.lower().endswith(".png"):
        raise UsageError("is not a file name of a picture", path=target, advice="end it in .png")
    path = Path(target)
    with place_of(path) as place:
        place.require_free(path, force)
    return path

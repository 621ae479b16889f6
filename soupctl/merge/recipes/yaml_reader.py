"""Read YAML as plain values: mappings, lists and texts, which keep numbers exact.

Rule 1: nothing is constructed but dicts, lists and texts: no tag means anything, no anchor is
followed, and no key stands twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import InputError
from ...storage.files import read_file

LARGEST_FILE = 1 << 16
"""Most bytes of a file, because the parser takes long."""

DEEPEST = 100
"""Most lists and mappings inside each other, because the parser takes longer the more there are."""


def read_yaml(path: Path) -> Any:
    """The one document of a YAML file, its scalars as they are written.

    Raises InputError for invalid YAML, for several documents, anchors and repeated keys.
    """
    # imported here, because no other command needs it
    import yaml

    content = read_file(path, limit=LARGEST_FILE)
    try:
        text = content.decode("utf-8")
        _require_plain(text, yaml)
        return _value(yaml.compose(text, Loader=yaml.BaseLoader), yaml)
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"is not valid YAML: {reason}", path=path) from None


def _require_plain(text: str, yaml: Any) -> None:
    """Raise ValueError for an anchor, and for a value that is nested too deeply."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ValueError("it has an anchor, which is not supported")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError("it is nested too deeply")


def _value(node: Any, yaml: Any) -> Any:
    """The plain value of a node."""
    if node is None:
        return None
    if isinstance(node, yaml.ScalarNode):
        is_null = node.style is None and node.value in ("", "~", "null", "Null", "NULL")
        return None if is_null else node.value
    if isinstance(node, yaml.SequenceNode):
        return [_value(each, yaml) for each in node.value]
    found: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.value in found:
            raise ValueError(f"the key {str(key.value)[:60]!r} is not a string, or occurs twice")
        found[key.value] = _value(value, yaml)
    return found

"""Configs of models whose quantised weights become plain ones in a soup."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePosixPath

from .job import Job

CONFIG = "config.json"
FIELD = "quantization_config"
OF_QUANTISED = ("hf_quant_config.json", "quantize_config.json")
"""Files that only describe the quantisation of weights (ModelOpt, AutoGPTQ)."""


def plain_folders(job: Job) -> Iterator[PurePosixPath]:
    """The folders, within the output, of components whose codes are averaged by value."""
    for component in job.components:
        if any(step.scales for step in component.plan.kept):
            yield PurePosixPath(component.files.folder)


def without_quantisation(config: bytes) -> bytes:
    """A config without its quantisation settings."""
    try:
        value = json.loads(config)
    except (ValueError, RecursionError):
        return config
    if not isinstance(value, dict) or FIELD not in value:
        return config
    del value[FIELD]
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"

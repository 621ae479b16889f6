"""What a path means beside a soup: a model, or a delta or adapter that is added to one.

Rule 1: nothing is loaded that computes with tensors, since a question needs none of it.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..checkpoints.layout import ModelFiles
from ..checkpoints.listing import PIPELINE
from ..checkpoints.open import STREAM, find_input, open_input
from ..ledger.data_files import is_image
from ..ledger.data_shard import is_data_folder
from ..ledger.pipelines import pipeline_digest
from ..ledger.read import is_delta
from ..lora.modules import is_adapter
from .delta.format import COMPONENT_FILE
from .opened_inputs import is_input


def find_for(path: str | Path, component: str | None, variant: str | None = None) -> ModelFiles:
    """The files of what is named beside a soup, of which `component` may be picked.

    A lone delta or adapter may be of that component. Raises what `find_input` raises.
    """
    if component is not None and path != STREAM and Path(path).is_file():
        model = find_input(path)
        with open_input(model.components[0]) as checkpoint:
            if _is_added(checkpoint):
                return model
    return find_input(path, component, variant)


def _is_pipeline(folder: Path) -> bool:
    """Whether a folder is a pipeline of models, not of deltas; found without opening a file."""
    return (folder / PIPELINE).exists() and not any(folder.glob(f"*/{COMPONENT_FILE}"))


def added_digest(what: str | Path, soup: ModelFiles) -> str | None:
    """The digest of deltas or an adapter at a path, unless they are of each component of a soup.

    None for anything else.
    """
    if len(soup.components) == 1 or what == STREAM or not is_input(str(what)):
        return None
    if is_image(Path(what)) or is_data_folder(Path(what)) or _is_pipeline(Path(what)):
        return None
    model = find_input(what)
    names = [component.name for component in model.components]
    if names == [component.name for component in soup.components]:
        return None
    with ExitStack() as stack:
        opened = [stack.enter_context(open_input(each)) for each in model.components]
        if not all(map(_is_added, opened)):
            return None
        digests = [checkpoint_digest(each) for each in opened]
    is_lone = len(digests) == 1 and not names[0]
    return digests[0] if is_lone else pipeline_digest(dict(zip(names, digests, strict=True)))


def _is_added(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is a delta or an adapter."""
    return is_delta(checkpoint) or is_adapter(checkpoint.tensors)

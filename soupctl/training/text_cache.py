"""Embeddings of captions, made once and kept in the run's folder, instead of the text encoders.

Rule 1: a caption is encoded alone, so that what is kept of it does not depend on any other.
Rule 2: the name of a file covers all that it depends on: the caption, the text encoders and the
vocabularies; so a file that exists is right, whichever run wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ..checkpoints.digest import PREFIX, text_digest
from ..diffusion.families.family import Condition
from ..diffusion.loading import Models, embed_captions
from ..diffusion.weights import file_digests
from ..errors import InputError
from ..ledger.sealed import canonical
from ..storage.atomic import publish_bytes
from .setup import PreparedRun

TEXTS = "texts"
"""The folder in a run's folder with the embeddings of captions."""


@dataclass(frozen=True, slots=True)
class TextCache:
    """The embeddings of captions, one safetensors file for each."""

    folder: Path
    encoders: Mapping[str, str]
    """Digests of the weights, configs and vocabularies that captions are encoded with, by name."""
    device: Any

    def path_of(self, caption: str) -> Path:
        """The file of a caption."""
        key = text_digest(canonical([caption, sorted(self.encoders.items())]))
        return self.folder / f"{key.removeprefix(PREFIX)[:32]}.safetensors"

    def read(self, captions: Sequence[str]) -> Condition:
        """The embeddings of captions, each with a row for each; InputError if unreadable."""
        found = [self._read(self.path_of(each)) for each in captions]
        return {
            name: torch.cat([each[name] for each in found]).to(self.device) for name in found[0]
        }

    def _read(self, path: Path) -> Condition:
        try:
            return safetensors.torch.load_file(path)
        except (OSError, safetensors.SafetensorError) as error:
            advice = "delete the file, and run the same command to resume"
            raise InputError(f"cannot be read: {error}", path=path, advice=advice) from None

    def write(self, caption: str, embeddings: Condition) -> None:
        """Write the file of a caption."""
        tensors = {name: each.cpu().contiguous() for name, each in embeddings.items()}
        publish_bytes(self.path_of(caption), safetensors.torch.save(tensors), replace=True)


def with_cached_texts(run: PreparedRun, models: Models, prompts: Sequence[str]) -> Models:
    """The models without text encoders, after encoding the captions that the cache lacked.

    These are the captions of all images, the empty caption and `prompts`.
    """
    accelerator, folder = run.accelerator, run.request.output / TEXTS
    folder.mkdir(exist_ok=True)
    cache = TextCache(folder, _encoders_of(run), accelerator.device)
    texts = {text for images in run.all_images for each in images.samples for text in each.captions}
    needed = sorted({"", *texts, *prompts})[accelerator.process_index :: accelerator.num_processes]
    if missing := [each for each in needed if not cache.path_of(each).is_file()]:
        for encoder in models.text_encoders.values():
            encoder.to(accelerator.device)
        with torch.no_grad():
            for caption in missing:
                cache.write(caption, embed_captions(models, [caption]))
    accelerator.wait_for_everyone()
    return replace(models, text_encoders={}, embedded=cache.read)


def _encoders_of(run: PreparedRun) -> dict[str, str]:
    """The digests of what captions are encoded with, by component."""
    files = file_digests(run.base)
    weights = {part.encoder: run.digests[part.encoder] for part in run.base.texts}
    configs = {
        f"{name} config": files[name]
        for part in run.base.texts
        for name in (part.encoder, part.tokenizer)
    }
    return {**weights, **configs}

"""The plan of a run, shown before it starts: sizes, steps, batch and disk space."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..choices import Precision, SaveAs
from ..diffusion.base import Base, Conditioning
from ..diffusion.rehearsal import caption_bytes, count_tokens, most_tokens
from ..diffusion.weights import parameter_counts
from ..errors import UsageError
from ..ledger.data_shard import data_digest
from .base_setup import BaseSetup
from .dataset import Dataset
from .distributed import is_sharded
from .export import copied_size
from .held_out import common_images
from .images import Images, recorded_images
from .labels import ClassNumbers
from .loader import InputSpec, make_order
from .notices import count_text, first_names
from .options import Options

THIN = 8
"""How many times as long as wide an elongated image is, or more."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The plan of a run, for the user to see before the first step."""

    base: str
    class_name: str
    data: str
    split: str
    """The split of that folder which is trained on; empty for the whole folder."""
    output: str
    images: int
    captions: int
    classes: int
    data_digest: str
    validation: int
    """Images for the validation loss; 0 if it is not measured."""
    regularization: int
    """Regularization images; 0 without them."""
    resolution: int
    buckets: dict[str, int]
    """Images by the size that they are scaled and cropped to, such as `512x768`; empty without."""
    prediction: str
    steps: int
    epochs: float
    epoch_images: int
    """Visits of images in an epoch: with buckets, an image may count twice, to fill a batch."""
    batch_size: int
    grad_accum: int
    processes: int
    trained: int
    """Number of parameters that are trained."""
    frozen: int
    device: str
    precision: str
    checkpoint_bytes: int
    model_bytes: int
    """Size of the result."""
    latents_bytes: int
    """Size of the latent cache; 0 without one."""
    texts_bytes: int
    """Size of the embeddings of captions; 0 if they are not kept."""
    disk_bytes: int
    """Disk space in total: the checkpoints that are kept and one more, result and caches."""
    notices: tuple[str, ...]

    @property
    def global_batch(self) -> int:
        """Number of images in an optimizer step."""
        return self.batch_size * self.grad_accum * self.processes


def make_plan(
    base_setup: BaseSetup,
    scanned: Images,
    classes: ClassNumbers | None,
    output: Path,
    accelerator: Any,
) -> RunPlan:
    """The plan of a run on a dataset; UsageError without steps and epochs."""
    dataset, validation, regularization = scanned
    base, options, images = base_setup.base, base_setup.options, len(dataset.samples)
    trained, frozen = _parameters(base_setup)
    processes = accelerator.num_processes
    order = make_order(dataset.samples, options, base_setup.input_spec)
    steps = count_steps(options, order.epoch, processes)
    checkpoint = checkpoint_size(trained, options)
    result = result_size(trained, copied_size(base) if base_setup.bank is None else 0, options)
    other = len(regularization.samples) if regularization else 0
    latents = latents_size(base_setup.input_spec, scanned) if options.cache_latents else 0
    texts = texts_size(base, scanned) if options.cache_texts else 0
    return RunPlan(
        base=str(base.given),
        class_name=base.class_name,
        data=str(dataset.folder),
        split=dataset.split,
        output=str(output),
        images=images,
        captions=sum(len(sample.captions) for sample in dataset.samples),
        classes=len(classes.numbers) if classes else 0,
        data_digest=data_digest(recorded_images(dataset, regularization)),
        validation=len(validation.samples) if validation else 0,
        regularization=other,
        resolution=base_setup.input_spec.resolution,
        buckets=_bucket_counts(base_setup.input_spec, dataset),
        prediction=base_setup.objective.prediction.value,
        steps=steps,
        epochs=steps * options.batch_size * options.grad_accum * processes / order.epoch,
        epoch_images=order.epoch,
        batch_size=options.batch_size,
        grad_accum=options.grad_accum,
        processes=processes,
        trained=trained,
        frozen=frozen,
        device=str(accelerator.device),
        precision=options.precision.value if options.precision is not Precision.NO else "fp32",
        checkpoint_bytes=checkpoint,
        model_bytes=result,
        latents_bytes=latents,
        texts_bytes=texts,
        disk_bytes=(options.keep + 1) * checkpoint + result + latents + texts,
        notices=(
            *_class_notices(classes),
            *_notices(base_setup, dataset, accelerator),
            *(regularization.notices if regularization else ()),
            *(validation.notices if validation else ()),
            *(common_images(dataset, validation) if validation else ()),
        ),
    )


def _class_notices(classes: ClassNumbers | None) -> Iterator[str]:
    """A remark about the numbers of classes that have names."""
    numbers = {} if classes is None else classes.numbers
    if any(not name.removeprefix("-").isdecimal() for name in numbers):
        told = [f"{name} {numbers[name]}" for name in sorted(numbers, key=numbers.__getitem__)]
        yield f"classes by number: {first_names(told)}"


def _notices(base_setup: BaseSetup, dataset: Dataset, accelerator: Any) -> Iterator[str]:
    """Remarks for the user about dataset, base and processes."""
    yield from dataset.notices
    yield from _size_notices(base_setup.input_spec, dataset)
    if base_setup.base.conditioning is Conditioning.TEXT:
        yield from _cut_captions(base_setup.base, dataset)
    yield from base_setup.notices
    if is_sharded(accelerator):
        yield f"the weights are sharded over {accelerator.num_processes} processes"


def _size_notices(spec: InputSpec, dataset: Dataset) -> Iterator[str]:
    """Remarks about images that are much smaller, or much longer, than what is used of them."""
    pairs = [(each, spec.size_of(each)) for each in dataset.samples]
    if enlarged := sum(each.size[0] < size[0] or each.size[1] < size[1] for each, size in pairs):
        than = "their buckets" if spec.buckets else f"{spec.resolution} pixels"
        yield f"{count_text(enlarged, 'image')} smaller than {than} will be enlarged"
    longest = [
        each.name
        for each, size in pairs
        if max(each.size) * min(size) > THIN * min(each.size) * max(size)
    ]
    if longest:
        images = count_text(len(longest), "image")
        part = "part" if spec.buckets else "square"
        yield f"{images} elongated, of which only a {part} is used: {first_names(longest)}"


def _bucket_counts(spec: InputSpec, dataset: Dataset) -> dict[str, int]:
    """The number of images of each size, the most frequent first; empty without buckets."""
    if not spec.buckets:
        return {}
    counts = Counter("x".join(map(str, spec.size_of(each))) for each in dataset.samples)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _cut_captions(base: Base, dataset: Dataset) -> Iterator[str]:
    """A remark about captions that are longer than the text encoder takes."""
    most = most_tokens(base)
    # a token is at least a byte, and two tokens mark beginning and end
    long = [
        (each.name, text)
        for each in dataset.samples
        for text in each.captions
        if len(text.encode()) + 2 > most
    ]
    lengths = count_tokens(base, [text for _, text in long])
    cut = [name for (name, _), length in zip(long, lengths, strict=True) if length > most]
    if cut:
        captions = count_text(len(cut), "caption")
        yield f"{captions} cut off after {most} tokens: {first_names(list(dict.fromkeys(cut)))}"


def _parameters(base_setup: BaseSetup) -> tuple[int, int]:
    """The numbers of trained and of frozen parameters."""
    base = base_setup.base
    counts = parameter_counts(base)
    whole, frozen = (
        counts[base.denoiser],
        counts.get(base.autoencoder, 0) if base.autoencoder else 0,
    )
    texts = sum(counts.get(each.encoder, 0) for each in base.texts)
    if base_setup.bank is not None:
        return base_setup.bank.trained, frozen + texts + whole
    if base_setup.options.train_text_encoder:
        return whole + texts, frozen
    return whole, frozen + texts


def count_steps(options: Options, images: int, processes: int) -> int:
    """The number of optimizer steps; epochs are rounded up to whole steps.

    Raises UsageError if neither steps nor epochs were given.
    """
    if options.steps is not None:
        return options.steps
    if options.epochs is None:
        raise UsageError("give --steps or --epochs")
    return -(-options.epochs * images // (options.batch_size * options.grad_accum * processes))


def checkpoint_size(trained: int, options: Options) -> int:
    """Most bytes of a training checkpoint: float32 weights, two moments, and averages."""
    return 4 * trained * ((4 if options.ema else 3) + len(options.track_widths))


def result_size(trained: int, copied: int, options: Options) -> int:
    """Bytes of the result: weights, with EMA also the raw ones, and files copied from the base.

    A single file holds them once more.
    """
    whole = 4 * trained + copied if options.save_as is SaveAs.SINGLE_FILE else 0
    return 4 * trained * (2 if options.ema else 1) + copied + whole


def latents_size(spec: InputSpec, images: Images) -> int:
    """Bytes of the latent cache: moments of the latents of images, and of their mirror images."""
    parts = (images.dataset, images.regularization)
    sizes = Counter(spec.size_of(each) for part in parts if part for each in part.samples)
    return sum(2 * 2 * 4 * math.prod(spec.shape_of(size)) * sizes[size] for size in sizes)


def texts_size(base: Base, images: Images) -> int:
    """Bytes of the embeddings of all captions, and of the empty one."""
    captions = {text for part in images if part for each in part.samples for text in each.captions}
    return caption_bytes(base) * (len(captions) + 1)

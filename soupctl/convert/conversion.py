"""A conversion that is ready to be carried out: its input open, its tensors and files decided.

Rule 1: every error that headers alone can show is raised here, before any data is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.layout import ModelFiles
from ..checkpoints.open import STREAM
from ..choices import ConvertQuantization
from ..errors import UsageError
from ..format.gguf import ARCHITECTURE
from ..format.header import encode_header
from ..frozen import frozen
from ..ledger.ledger import LEDGER_KEY
from ..ledger.training_record import TrainingRecord
from ..merge.destination import Destination
from ..merge.facts import facts_of_source
from ..merge.ingredients import ComponentInputs, Ingredient, Inputs, open_inputs
from ..merge.recipe import Recipe, require_matches
from .dtypes import OutputComponent, SourceKinds, convert_component
from .gguf.output import GgufFile, gguf_file
from .gguf.reader import is_gguf, open_gguf
from .pickles.archive import is_zip
from .pickles.folders import find_pickled, open_pickles
from .pickles.tensors import open_pickle
from .places import LaidOut, lay_out_anew, place
from .record import component_metadata, kept_ledger, with_ledger
from .request import ConvertRequest


@frozen
class Conversion:
    """A checkpoint to convert, open, and what it becomes."""

    request: ConvertRequest
    inputs: Inputs
    kinds: SourceKinds
    components: tuple[OutputComponent, ...]
    """The components of the output."""
    destination: Destination
    metadata: tuple[Mapping[str, str], ...]
    """The metadata of each component's files, with digests that are not known yet."""
    ledgers: tuple[str | None, ...]
    """The ledger that stays with each component, as it was."""
    texts: tuple[tuple[str, bytes], ...] = ()
    """Configs that are written beside the weights, by their names in the output."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Tensors that have no use in the output's layout, and why."""
    trainings: tuple[TrainingRecord | None, ...] = ()
    """The training that each component's new ledger records; none for a conversion."""
    gguf: GgufFile | None = None
    """The output if it is a GGUF file, which has no ledger."""

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The components of the input."""
        return tuple(component.checkpoints[0] for component in self.inputs.components)

    def headers(self, number: int) -> list[int]:
        """Bytes that the header of each file of a component takes."""
        metadata = self.file_metadata(number, self.metadata[number])
        if self.gguf is not None:
            return [len(self.gguf.header(metadata))]
        files = self.destination.components[number].files
        return [len(encode_header(file.tensors, metadata)) for file in files]

    def file_metadata(self, number: int, metadata: Mapping[str, str]) -> dict[str, str]:
        """The metadata of a component's files; an index carries the ledger instead, if any."""
        if self.destination.components[number].index is not None:
            return {**metadata}
        return with_ledger(metadata, self.ledgers[number])

    @property
    def names_architecture(self) -> bool:
        """Whether the metadata names the architecture, as that of GGUF files does."""
        return any(ARCHITECTURE in each for each in self.metadata)

    @property
    def read(self) -> int:
        """Bytes of tensor data that will be read; those of tensors to quantise twice."""
        twice = {
            (each.component, each.tensor)
            for component in self.components
            for tensor in component.tensors
            if tensor.is_quantised
            for each in tensor.arranged.ranges
        }
        contents = self.kinds.contents
        return sum(each.data_size for each in self.checkpoints) + sum(
            contents[component][name].size for component, name in twice
        )

    @property
    def written(self) -> int:
        """Bytes of tensor data that will be written."""
        if self.gguf is not None:
            return self.gguf.size
        return sum(
            prod(shape) * dtype.bits // 8
            for component in self.components
            for _, dtype, shape in component.plan.written
        )

    @property
    def size(self) -> int:
        """Bytes of all weights files of the output."""
        return self.written + sum(sum(self.headers(n)) for n in range(len(self.components)))

    @property
    def lost_ledgers(self) -> tuple[str, ...]:
        """The input components that are soups, and whose ledgers do not go into the output."""
        kept = any(self.ledgers)
        return tuple(
            each.label
            for component, each in zip(self.inputs.components, self.checkpoints, strict=True)
            if component.ledgers[0] is not None and not kept
        )

    def require_unchanged(self) -> None:
        """Raise OutputError if a file that was read is another now, or was written to since."""
        self.inputs.require_unchanged()
        self.destination.companions.require_unchanged()


@contextmanager
def open_conversion(request: ConvertRequest) -> Iterator[Conversion]:
    """The conversion with its input opened and checked, until the context ends.

    Raises any child of SoupError for what cannot be read or converted.
    """
    with _opened(request) as inputs:
        yield _planned(request, inputs)


@contextmanager
def _opened(request: ConvertRequest) -> Iterator[Inputs]:
    """The input: safetensors, or a checkpoint that torch has saved."""
    path, label = Path(request.source), str(request.source)
    if request.source != STREAM and is_zip(path):
        with open_pickle(path, label, request.entry) as checkpoint:
            yield _alone(request, checkpoint)
        return
    if request.source != STREAM and is_gguf(path):
        with open_gguf(path, label) as checkpoint:
            yield _alone(request, checkpoint)
        return
    if request.source == STREAM:
        pickled = None
    else:
        pickled = find_pickled(path, request.component, request.variant)
    if pickled is not None:
        with open_pickles(pickled, request.entry) as inputs:
            yield inputs
        return
    if request.entry is not None:
        what = "--entry goes with a checkpoint that torch has saved"
        raise UsageError(what, path=request.source, advice="leave it out")
    with open_inputs(
        [Ingredient(request.source)],
        component=request.component,
        variant=request.variant,
        ignore_ledger=request.ignore_ledger,
    ) as inputs:
        yield inputs


def _alone(request: ConvertRequest, checkpoint: Checkpoint) -> Inputs:
    """A file of another format as the only input; UsageError for what picks one of several."""
    if request.component is not None:
        what = "is not a pipeline, so --component does not apply"
        raise UsageError(what, path=checkpoint.label)
    component = ComponentInputs("", (checkpoint,), (None,), None)
    return Inputs((ModelFiles(checkpoint.label, (checkpoint.component,)),), (component,))


def _planned(request: ConvertRequest, inputs: Inputs) -> Conversion:
    checkpoints = [component.checkpoints[0] for component in inputs.components]
    kinds = SourceKinds.of(
        [each.label for each in checkpoints],
        [each.tensors for each in checkpoints],
        list(map(facts_of_source, checkpoints)),
    )
    laid_out = lay_out_anew(request, inputs, kinds)
    _require_globs(request, kinds, laid_out)
    is_to_gguf = request.makes_gguf
    if request.quantize is ConvertQuantization.Q8_0 and not is_to_gguf:
        what = "--quantize q8_0 stores weights as a GGUF file does"
        raise UsageError(what, path=request.output, advice="name a .gguf file with -o")
    if is_to_gguf and len(laid_out.components) > 1:
        what = f"one file cannot hold {len(laid_out.components)} components"
        raise UsageError(what, path=request.output, advice="pick one of them with --component")
    if request.quantize is not None and len(laid_out.components) > 1:
        what = f"--quantize {request.quantize} makes a single file"
        raise UsageError(what, advice="pick one of the components with --component")
    components = tuple(
        convert_component(request, component, kinds) for component in laid_out.components
    )
    _require_metadata(request, checkpoints)
    gguf = gguf_file(kinds.labels[0], components[0].tensors) if is_to_gguf else None
    destination, texts = place(request, inputs, components, laid_out, gguf)
    return Conversion(
        request,
        inputs,
        kinds,
        components,
        destination,
        tuple(component_metadata(request, component, checkpoints) for component in components),
        tuple(kept_ledger(request, component, checkpoints) for component in components),
        texts,
        laid_out.left_out,
        gguf=gguf,
    )


def _require_globs(request: ConvertRequest, kinds: SourceKinds, laid_out: LaidOut) -> None:
    """Raise UsageError for globs that match no tensor, and if no tensor is left."""
    own = frozenset(name for content in kinds.contents for name in content)
    require_matches(Recipe((), keys=request.keys, excludes=request.excludes), own)
    new = frozenset(each.name for component in laid_out.components for each in component.tensors)
    if own and not new:
        what = "no tensor is left to convert"
        raise UsageError(what, path=kinds.labels[0], advice="see --key and --exclude")
    require_matches(Recipe((), dtype_for=request.dtype_for), new)


def _require_metadata(request: ConvertRequest, checkpoints: Sequence[Checkpoint]) -> None:
    """Raise UsageError for keys to leave out that no component has."""
    known = {key for each in checkpoints for key in each.metadata if key != LEDGER_KEY}
    for key in request.without_metadata:
        if key not in known:
            what = f"--unset {key!r} is not in its metadata"
            advice = f"it has {', '.join(sorted(known))}" if known else "it has none"
            raise UsageError(what, path=checkpoints[0].label, advice=advice)

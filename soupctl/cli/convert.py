"""`soupctl convert`: changes the dtype, shards, metadata or format of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..choices import ConvertQuantization, Layout
from ..frozen import frozen
from ..storage.sizes import parse_size
from . import options
from .console import counted, digest_text, is_silent, is_terminal, put, put_json, say
from .hub_option import CHECKPOINTS
from .merge_output import (
    MergeOptions,
    error_json,
    report_error,
    report_left_behind,
    require_output,
)
from .option_groups import with_option_groups
from .preview_report import file_lines, files_json, work_json, work_lines
from .work import limits, working

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..verbs import Conversion, ConversionPreview, ConvertedComponent, ConvertRequest

    Report = Callable[[Conversion], None]


@frozen
class ConvertOptions:
    """Options of `convert` besides those of every command that makes a checkpoint."""

    dtype: Annotated[
        str | None,
        typer.Option(
            help="Float dtype of all weights.  [default: each tensor's own]",
            autocompletion=options.completion.dtypes,
        ),
    ] = None
    dtype_for: options.DtypeFor = None
    quantize: Annotated[
        ConvertQuantization | None,
        typer.Option(help="Store the weights of linear layers in eight bits, q8_0 in a GGUF file."),
    ] = None
    layout: Annotated[
        Layout | None,
        typer.Option(help="Lay the model out as a single file (ldm), or for diffusers."),
    ] = None
    config_from: Annotated[
        str | None,
        typer.Option(
            help="Give a new pipeline the configs and tokenizers of this one.", metavar="PIPELINE"
        ),
    ] = None
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Set an entry of the metadata.", metavar="KEY=VALUE"),
    ] = None
    unset: Annotated[
        list[str] | None,
        typer.Option("--unset", help="Leave out an entry of the metadata.", metavar="KEY"),
    ] = None
    entry: Annotated[
        str | None,
        typer.Option(help="Entry of a .ckpt or .bin that holds the tensors.", metavar="NAME"),
    ] = None
    key: options.Key = None
    exclude: options.Exclude = None
    component: options.Component = None
    variant: options.Variant = None
    shard_size: options.ShardSize = None
    allow_nonfinite: Annotated[
        bool,
        typer.Option("--allow-nonfinite", help="Cast NaN and infinity, too, to another dtype."),
    ] = False
    ignore_ledger: options.IgnoreLedger = False

    def request(self, source: str, output: str) -> ConvertRequest:
        """The conversion of this input; UsageError for malformed options."""
        from ..format.dtypes import parse_dtype
        from ..verbs import ConvertRequest

        dtypes = options.pairs(self.dtype_for, "--dtype-for")
        return ConvertRequest(
            source=options.named(source),
            output=output,
            dtype=None if self.dtype is None else parse_dtype(self.dtype),
            dtype_for=tuple((glob, parse_dtype(name)) for glob, name in dtypes),
            quantize=self.quantize,
            layout=self.layout,
            config_from=self.config_from,
            entry=self.entry,
            keys=tuple(self.key or ()),
            excludes=tuple(self.exclude or ()),
            metadata=options.entries(self.set_, "--set"),
            without_metadata=tuple(self.unset or ()),
            shard_size=parse_size(self.shard_size, "--shard-size"),
            component=self.component,
            variant=self.variant,
            allow_nonfinite=self.allow_nonfinite,
            ignore_ledger=self.ignore_ledger,
        )


@with_option_groups
def convert(
    source: Annotated[
        str,
        typer.Argument(help="A checkpoint: a file, a folder, or - for stdin.", metavar="INPUT"),
        CHECKPOINTS,
    ],
    output: options.Output = None,
    *,
    asked: ConvertOptions,
    merge: MergeOptions,
) -> None:
    """Change the dtype, layout, shards or metadata of a checkpoint.

    Tensors whose dtype stays are copied bit for bit.

    Example: soupctl convert model.safetensors -o half.safetensors --dtype fp16
    """
    output = require_output(output, merge)
    from .. import verbs

    make(verbs.open_conversion(asked.request(source, output)), output, merge)


def make(
    opening: AbstractContextManager[Conversion],
    output: str,
    merge: MergeOptions,
    report: Report | None = None,
) -> None:
    """Carry out the conversion that `opening` yields; print only the plan in a dry run.

    `report` tells the result, if not as that of a conversion.
    """
    from .. import verbs

    execution, most = limits(merge)
    with opening as job:
        found = verbs.preview_conversion(job, merge.threads, most, execution.reserved_memory)
        if merge.dry_run:
            verbs.require_free_output(job, force=merge.force)
            _show_preview(found, output, merge)
            return
        with working(found, execution, merge, output) as planned:
            made = verbs.convert_tensors(job, force=merge.force, execution=planned)
    if report is None:
        _report(output, made, found, merge)
    else:
        report(job)


def _report(
    output: str, made: Sequence[ConvertedComponent], found: ConversionPreview, merge: MergeOptions
) -> None:
    whole = merge.verbose or not is_terminal()
    for each in made:
        title = f"{output}: {each.name}" if each.name else output
        digests = ", ".join(digest_text(digest, whole=whole) for digest in each.sources)
        line = f"{title}: {counted(each.tensors, 'tensor')}, converted from {digests}"
        say(line, is_silent(merge.quiet, merge.verbose))
        report_error(output, each.error, merge.quiet)
    report_left_behind(found, merge.quiet)
    for note in found.notes:
        say(f"soupctl: {note}", merge.quiet)
    if merge.json:
        components = [_component_json(each) for each in made]
        put_json({"output": output, "components": components, "notes": list(found.notes)})


def _component_json(made: ConvertedComponent) -> dict[str, Any]:
    return {
        "name": made.name,
        "converted_from": list(made.sources),
        "tensors": made.tensors,
        "keeps_ledger": made.keeps_ledger,
        **({} if made.error is None else {"quantised": error_json(made.error)}),
    }


def _show_preview(found: ConversionPreview, output: str, merge: MergeOptions) -> None:
    """Print the plan on stdout: it is the result of a dry run."""
    if merge.json:
        put_json(_preview_json(found, output))
        return
    for line in _preview_lines(found, output):
        put(line)


def _preview_json(found: ConversionPreview, output: str) -> dict[str, Any]:
    return {
        "output": output,
        **work_json(found),
        "components": [
            {
                "name": each.name,
                "files": list(each.files),
                "tensors": each.tensors,
                "cast": each.cast,
                "dtypes": dict(each.dtypes),
            }
            for each in found.components
        ],
        **files_json(found),
    }


def _preview_lines(found: ConversionPreview, output: str) -> Iterator[str]:
    yield f"output   {output}"
    yield from work_lines(found)
    for each in found.components:
        dtypes = ", ".join(f"{count} {dtype}" for dtype, count in each.dtypes)
        files = ", ".join(each.files)
        yield f"{each.name or 'tensors':8} {each.tensors} ({dtypes}) in {files}, {each.cast} cast"
    yield from file_lines(found)

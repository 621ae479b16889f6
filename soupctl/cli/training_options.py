"""Options shared by the training commands, other than those of the training itself."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from ..frozen import frozen
from . import options

Base = Annotated[
    str, typer.Argument(help="A local diffusers folder, or single file.", metavar="BASE")
]
ConfigsOfSingleFile = Annotated[
    str | None,
    typer.Option(
        help="Give a single file the configs or tokenizers of this folder.", metavar="DIR"
    ),
]


@frozen
class RunOptions:
    """The inputs and the output of a run."""

    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Folder of images; a quoted pattern trains one run for each folder.",
            metavar="DIR",
        ),
    ] = None
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder of the run; {name} stands for the name of the data folder.",
            metavar="DIR",
        ),
    ] = None
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with more options; the command line wins over it.", metavar="FILE"
        ),
    ] = None
    resume: Annotated[
        str,
        typer.Option(
            help="Whether to resume: auto, never, or the checkpoint to resume from.",
            metavar="WHAT",
        ),
    ] = "auto"
    variant: options.Variant = None
    config_from: ConfigsOfSingleFile = None

    def require_data_and_output(self) -> tuple[list[str], str]:
        """Data and output, which every run needs; UsageError if one of them is missing."""
        if not self.data or self.output is None:
            raise UsageError("--data and -o are required")
        return self.data, self.output


@frozen
class ReportOptions:
    """The output options of a training command."""

    dry_run: options.DryRun = False
    json: options.Json = False
    quiet: options.Quiet = False
    verbose: options.Verbose = False

    def on_this_process(self) -> ReportOptions:
        """The options for this process: only the first of several processes prints."""
        if os.environ.get("RANK", "0") == "0":
            return self
        return replace(self, json=False, quiet=True)

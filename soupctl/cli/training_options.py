"""Options that the training commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..choices import Precision, Schedule

Base = Annotated[str, typer.Argument(help="A local diffusers folder.", metavar="BASE")]
Data = Annotated[
    list[str] | None,
    typer.Option(help="A folder of images; a quoted pattern is several.", metavar="DIR"),
]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", help="Where the run goes; {name} is the data's.", metavar="DIR"),
]
Config = Annotated[Path | None, typer.Option(help="More options, in TOML.", metavar="FILE")]
Steps = Annotated[int | None, typer.Option(help="Optimizer steps.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the data instead.")]
BatchSize = Annotated[int | None, typer.Option(help="Images of a forward pass of a process.  [4]")]
GradAccum = Annotated[int | None, typer.Option(help="Forward passes of an optimizer step.  [1]")]
LrSchedule = Annotated[Schedule | None, typer.Option(help="How it goes on.  [constant]")]
Resolution = Annotated[int | None, typer.Option(help="Side of the images in pixels.  [the base's]")]
CondDrop = Annotated[
    float | None, typer.Option(help="Share of captions or classes left out.  [0.1]")
]
ComputesIn = Annotated[
    Precision | None, typer.Option(help="What the denoiser computes in.  [no: fp32]")
]
SaveEvery = Annotated[int | None, typer.Option(help="Steps between checkpoints.  [500]")]
SampleEvery = Annotated[int | None, typer.Option(help="Steps between sample grids.")]
Prompt = Annotated[list[str] | None, typer.Option(help="What the grids show.", metavar="TEXT")]
Seed = Annotated[int | None, typer.Option(help="Of everything drawn.  [0]")]
SkipBad = Annotated[bool | None, typer.Option("--skip-bad", help="Leave bad images out.")]
Resume = Annotated[str, typer.Option(help="auto, never, or a checkpoint's folder.", metavar="WHAT")]

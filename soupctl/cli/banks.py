"""Prompt banks in `soupctl inspect`: lines, JSON, and a plot of their gates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .console import say
from .options import named
from .picture import free_picture

if TYPE_CHECKING:
    from ..banks.gate_survey import BlockSummary
    from ..banks.inspect import BankInfo

FEW = 5
"""Timesteps in the summary of a gate in JSON."""


def banks_at(path: str, base: str | None, *, is_plotted: bool) -> tuple[BankInfo, ...]:
    """The prompt bank or banks of the stack in a folder; none for any other checkpoint.

    Raises UsageError for --base or --plot with another checkpoint.
    """
    from ..banks.inspect import inspect_banks

    found = inspect_banks(Path(path), None if base is None else Path(named(base)))
    if not found and (base is not None or is_plotted):
        option = "--plot" if base is None else "--base"
        raise UsageError(f"is not a prompt bank, which {option} needs", path=path)
    return found


def plot(
    path: str, base: str | None, target: str, *, force: bool
) -> tuple[tuple[BlockSummary, ...], ...]:
    """A summary of the gates of each bank, block by block; their plot is written to `target`."""
    picture = free_picture(target, force=force)
    from ..banks.gate_survey import summarise
    from ..images.gate_figure import plot_gates, save_plot

    made = plot_gates(Path(path), None if base is None else Path(base))
    save_plot(made, picture, replace=force)
    say(f"{target}: the gates of {path} on {made.base}")
    return tuple(summarise(each, FEW) for each in made.surveys)


def bank_lines(banks: Sequence[BankInfo], gates: Sequence[Sequence[BlockSummary]]) -> Iterator[str]:
    """Lines for each bank, with a summary of its gates if there is one."""
    for index, bank in enumerate(banks):
        if bank.name:
            yield f"{bank.name}, with weight {bank.weight}"
        yield from _lines(bank)
        for block in gates[index] if gates else ():
            yield (
                f"  gate        {block.block}  {block.in_use:.3g} of {block.rows} weights in use,"
                f" {block.change:.1%} vary with time, adds {block.strength:.2g} RMS"
            )


def _lines(bank: BankInfo) -> Iterator[str]:
    config, share = bank.config, bank.share
    beside = "" if share is None else f", {share:.2%} of the base's {bank.base_parameters:,}"
    kept = "" if config.topk == 1 else f", top {config.topk:.3g} kept"
    yield f"prompt bank for {config.base.kind} of {config.base.num_train_timesteps} timesteps"
    yield f"  parameters  {config.parameters:,}{beside}"
    has_input = config.gate_input is config.embedding
    of = f"on {config.gate_input.value}" if has_input else "without input"
    yield f"  gate        {config.gate.value} {of}{kept}"
    for site in config.base.sites:
        yield f"  block       {site.name}  {list(config.prompt_shape(site))}"


def banks_json(
    banks: Sequence[BankInfo], gates: Sequence[Sequence[BlockSummary]]
) -> dict[str, Any]:
    """The banks as JSON: a `bank`, or those of a `stack` by name."""
    read = {each.name: _json(each) for each in banks}
    for name, blocks in zip(read, gates or [()] * len(read), strict=True):
        read[name]["gates"] = {each.block: _gate_json(each) for each in blocks}
    if "" in read:
        return {"bank": read[""]}
    weights = {each.name: str(each.weight) for each in banks}
    return {"stack": {name: {"weight": weights[name], **read[name]} for name in weights}}


def _json(bank: BankInfo) -> dict[str, Any]:
    config = bank.config
    return {
        "base_class": config.base.kind,
        "base_parameters": bank.base_parameters,
        "parameters": config.parameters,
        "share": bank.share,
        "gate": config.gate.value,
        "gate_input": config.gate_input.value,
        "topk": config.topk,
        "blocks": {site.name: list(config.prompt_shape(site)) for site in config.base.sites},
    }


def _gate_json(block: BlockSummary) -> dict[str, Any]:
    return {
        "weights": block.rows,
        "uniform_entropy": log(block.rows),
        "entropy": {str(timestep): each for timestep, each in block.entropy_at.items()},
        "strength": {str(timestep): each for timestep, each in block.strength_at.items()},
        "in_use": block.in_use,
        "varies_with_time": block.change,
    }

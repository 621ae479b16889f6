"""Every option of every command that works on soups reaches the function that does the work.

Rule 1: options are read from the commands, so a new one is tested as soon as it has a value below.
Rule 2: an option arrives if giving it changes an argument of its name, or what is printed where it
decides nothing else.
"""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from option_spies import Spies, changed, given, options_of_commands
from safetensors.numpy import save_file

from soupctl import verbs
from soupctl.choices import Level, Proof
from soupctl.cli.app import commands
from soupctl.cli.error_report import ErrorStyle
from soupctl.errors import InputError
from soupctl.proof.statement import Verification
from soupctl.verbs import Attestation, CheckedAttestation, PlannedPush, Pushed, Workers

WORDS = {
    "avg": "a.st b.st -o out.st",
    "commit": "parted.st",
    "ema": "a.st b.st -o out.st --sigma-rel 0.2 --steps 1,3",
    "run": "recipe.toml -o out.st",
    "add": "soup.st c.st -o out.st",
    "subtract": "soup.st a.st -o out.st",
    "swap": "soup.st a.st c.st -o out.st",
    "delta": "a.st b.st -o out.delta",
    "apply": "b.st a.delta -o out.st",
    "merge": "a.st b.st -o out.st --method ties --base c.st --density 0.2",
    "convert": "soup.st -o out.st",
    "report": "soup.st -o page.html",
    "record": "soup.st -o out.st --data folder --base b.st --steps 5",
    "lora": "extract b.st a.st -o out.st",
    "greedy": "a.st b.st -o out.st --score true{}",
    "rank": "soup.st --score true{}",
    "search": "a.st b.st -o out.st --score true{}",
    "has": "soup.st a.st",
    "log": "soup.st",
    "verify": "soup.st",
    "attest": "soup.st -o proof.json",
    "bom": "soup.st -o bom.json",
    "push": "soup.st hf://me/soup",
    "inspect": "soup.st",
    "diff": "a.st b.st",
    "hash": "a.st",
    "doctor": "",
    "bench": "a.st b.st",
    "demo": "folder",
    "help": "",
}
"""A command line of each command that its options are added to."""
ELSEWHERE = {"finetune", "patch-dmp", "stack", "sample"}
"""Commands whose options are tested with the libraries that train."""

WITH_IDS = {
    "avg": ("me/cats b.st -o out.st", "ingredients"),
    "ema": ("me/cats b.st -o out.st --sigma-rel 0.2 --steps 1,3", "inputs"),
    "run": ("recipe.toml -o out.st", "hub"),
    "add": ("soup.st me/cats -o out.st", "added"),
    "subtract": ("soup.st me/cats -o out.st", "removed"),
    "swap": ("soup.st a.st me/cats -o out.st", "added"),
    "delta": ("me/cats me/base -o out.delta", "base"),
    "apply": ("b.st me/cats@0.5 -o out.st", "deltas"),
    "merge": ("a.st b.st -o out.st --method ties --base me/base --density 0.2", "base"),
    "convert": ("me/cats -o out.st", "source"),
    "report": ("me/soup -o page.html", "soup"),
    "record": ("soup.st -o out.st --data folder --base me/base --steps 5", "base"),
    "lora": ("extract b.st me/base -o out.st", "base"),
    "greedy": ("a.st me/cats -o out.st --score true{}", "ingredients"),
    "search": ("a.st me/cats -o out.st --score true{}", "ingredients"),
    "has": ("soup.st me/cats", "what"),
    "log": ("me/soup", "soup"),
    "verify": ("me/soup", "soup"),
    "attest": ("soup.st -o proof.json me/cats", "ingredients"),
    "inspect": ("me/cats", "path"),
    "diff": ("a.st me/cats", "other"),
    "hash": ("me/cats", "path"),
}
"""Command lines with an id of the hub, and the argument in which it becomes an address."""
OTHER_WORDS = {
    **{(command, "hub"): words for command, (words, _) in WITH_IDS.items()},
    ("ema", "decay"): "a.st b.st -o out.st",
    ("ema", "sigma_rel"): "a.st b.st -o out.st",
    ("merge", "method"): "a.st b.st -o out.st --method dare --base c.st --density 0.2",
    ("merge", "gamma"): "a.st b.st -o out.st --method breadcrumbs --base c.st --density 0.2",
    ("merge", "epsilon"): "a.st b.st -o out.st --method della --base c.st --density 0.2",
    ("merge", "seed"): "a.st b.st -o out.st --method dare --base c.st --density 0.2",
    ("avg", "null"): "a.st b.st -o out.st --files-from list",
    ("avg", "sweep"): "a.st b.st -o out-{t}.st",
    ("subtract", "each"): "soup.st -o out-{name}.st",
    ("greedy", "scorer"): "a.st b.st -o out.st",
    ("rank", "scorer"): "soup.st",
    ("search", "scorer"): "a.st b.st -o out.st",
    ("inspect", "force"): "soup.st --plot gates.png",
    ("diff", "base"): "a.st b.st --matrix",
    ("diff", "by"): "a.st b.st --exclude block.0.w",
    ("diff", "force"): "a.st b.st --plot differences.png",
    ("diff", "matrix"): "a.st b.st --base c.st",
    ("hash", "check"): "",
    ("attest", "certificate"): "soup.st -o proof.json --sign-with key.pem",
    ("verify", "sample"): "soups",
    ("verify", "seed"): "soups",
    ("verify", "max_duration"): "soups",
    ("verify", "key"): "soup.st --attestation proof.json",
    ("verify", "signers"): "soup.st --attestation proof.json",
    ("log", "tree"): "nested.st",
    ("hash", "quiet"): "--check list.b3",
}
"""Command lines for options that need others, or exclude some."""

VALUES = {
    "attestation": "proof.json",
    "base": "base",
    "blocks": "GRAD_V",
    "check": "list.b3",
    "component": "unet",
    "count": "3",
    "device": "cpu",
    "decay": "0.9",
    "density": "0.3",
    "epsilon": "0.2",
    "gamma": "0.1",
    "dtype": "F32",
    "entry": "model",
    "exclude": "w*",
    "files_from": "list",
    "key": "w*",
    "max_memory": "512M",
    "output": "other.st",
    "part": "1/4",
    "plot": "gates.png",
    "rank": "8",
    "ray": "local",
    "rounds": "2",
    "folder": "folder",
    "journal": "scores.jsonl",
    "samples": "grid.png",
    "score": "false{}",
    "scorer": "score.py:f",
    "max_duration": "10m",
    "sample": "5%",
    "search": "folder",
    "set_": "title=x",
    "sweep": "0:1:0.5",
    "shard_size": "1M",
    "sigma_rel": "0.1",
    "steps": "2",
    "stored_sigma_rel": "0.15",
    "threads": "3",
    "unset": "format",
    "total": "5/2",
    "variant": "fp16",
    "weights": "3,1",
}
NAMES = {
    "check": "check_digests",
    "count": "total",
    "attestation": "check_attestation",
    "dry_run": "plan_push",
    "each": "leave_out_each",
    "ema": "is_average",
    "journal": "journals",
    "caption_column": "column",
    "maximize": "minimize",
    "score": "command",
    "scorer": "function",
    "model_card": "card",
    "no_model_card": "card",
    "max_duration": "seconds",
    "signers": "key",
    "matrix": "compare_deltas",
    "exclude": "excludes",
    "files_from": "ingredients",
    "key": "keys",
    "density": "densities",
    "null": "ingredients",
    "part": "text",
    "plot": "target",
    "ray": "address",
    "set_": "metadata",
    "sha256": "file_sha256",
    "unset": "without_metadata",
    "weight_by": "by",
    "weights": "ingredients",
}
"""Arguments that an option is passed as or becomes part of, or the function that it chooses."""
PRINTED = {"by", "json", "quiet", "recipe", "summary", "tensors", "tree", "verbose"}
"""Options that may decide what is printed, and nothing else."""

VERIFICATION = Verification(Level.DIGEST, 0, "1", 1)
ATTESTED = Attestation((), (), VERIFICATION)
STUBS = {
    "soupctl.verbs.attest": ATTESTED,
    "soupctl.verbs.describe": (Path("bom.json"),),
    "soupctl.cli.bom.read_bar": nullcontext(),
    "soupctl.verbs.plan_push": PlannedPush("hf://me/soup", "me/soup", "main", "", "1", ()),
    "soupctl.verbs.push": Pushed("hf://me/soup@1", "1", ("soup.st",), 1),
    "soupctl.cli.report.read_bar": nullcontext(),
    "soupctl.verbs.check_attestation": CheckedAttestation("", Proof.OK, "", (), ATTESTED),
    "soupctl.cli.average.make_on": (),
    "soupctl.cli.parts.make_one_part": (),
    "soupctl.cli.parts.progress": nullcontext(),
    "soupctl.verbs.commit": (),
    "soupctl.verbs.open_workers": nullcontext(Workers(1, 0)),
    "soupctl.verbs.verify_on_workers": (),
    "soupctl.cli.apply.make_on": (),
    "soupctl.cli.merge.make": (),
    "soupctl.cli.delta.make": (),
    "soupctl.cli.convert.make": (),
    "soupctl.cli.record.make": (),
    "soupctl.cli.ema.make": (),
    "soupctl.cli.run.make": (),
    "soupctl.cli.lora.report": (),
    "soupctl.cli.rank.draw": (),
    "soupctl.cli.rank.execution_of": (),
    "soupctl.cli.rank.free_picture": "ranks.png",
    "soupctl.cli.rank.plan_of": (),
    "soupctl.cli.rank.print_ranking": (),
    "soupctl.cli.rank.show_plan": (),
    "soupctl.cli.choosing.execution_of": (),
    "soupctl.cli.search.planned": (),
    "soupctl.cli.search.print_found": (),
    "soupctl.cli.search.show_plan": (),
    "soupctl.cli.greedy.planned": (),
    "soupctl.cli.greedy.print_choice": (),
    "soupctl.cli.greedy.show_plan": (),
    "soupctl.cli.change.make_on": (),
    "soupctl.cli.several_soups.leave_out_each": (),
    "soupctl.cli.several_soups.sweep": (),
    "soupctl.cli.diff.free_picture": "differences.png",
    "soupctl.cli.diff.plot_differences": (),
    "soupctl.cli.banks.banks_at": (),
    "soupctl.cli.banks.plot": (),
}
"""Functions that do the work and are not let do it, and what they return."""
FORWARDED = (
    "ask",
    "check_digests",
    "compare_checkpoints",
    "compare_deltas",
    "content_digests",
    "file_sha256",
    "history",
    "inspect",
    "open_recipe",
    "recipe_of_soup",
    "time_average",
    "verify",
    "verify_folder",
)
HELD_BACK = (
    "close_recipe",
    "greedy",
    "open_greedy",
    "open_search",
    "search",
    "rank",
    "open_job",
    "open_revision",
    "open_family",
    "open_application",
    "open_merge",
    "open_conversion",
    "open_record",
    "measure_speed",
    "report",
    "open_delta_job",
    "extract_lora",
    "make_checkpoints",
    "weighted_by",
)


OPTIONS = [each for each in options_of_commands() if each[0] not in ELSEWHERE]
IDS = [f"{command}-{parameter.name}" for command, parameter in OPTIONS]


def refuse(address: Any, *_: Any) -> None:
    raise InputError("cannot be read", path=address.shown)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with checkpoints, soups and lists."""
    folder = tmp_path_factory.mktemp("files")
    for name in "abc":
        # as many as inspect counts by block
        tensors = {f"block.{i}.w": np.full(4, ord(name), np.float16) for i in range(21)}
        save_file(tensors, folder / f"{name}.st")
    steps = '[steps.s]\naverage = ["a"]\n'
    (folder / "recipe.toml").write_text(f'[inputs]\na = "a.st"\n{steps}')
    (folder / "list").write_text("c.st\n")
    (digest,) = verbs.content_digests(str(folder / "a.st"))
    (folder / "list.b3").write_text(f"{digest.digest}  a.st\n")
    for name, inputs in {"soup": "ab", "nested": ("soup", "c")}.items():
        words = ["avg", *(str(folder / f"{each}.st") for each in inputs)]
        words += ["-o", str(folder / f"{name}.st"), "-q"]
        commands().main(args=words, standalone_mode=False, obj=ErrorStyle())
    request = verbs.Request([folder / "a.st", folder / "b.st"], folder / "parted.st")
    with verbs.open_part(request, verbs.parse_part("1/1")) as planned:
        verbs.make_part(planned)
    (folder / "soups").mkdir()
    for name in ("soup", "nested"):
        shutil.copy(folder / f"{name}.st", folder / "soups")
    return folder


@pytest.fixture
def observed(monkeypatch, files, capsys):
    """Runs a command line; what arrives at the functions that work, and what is printed."""
    monkeypatch.chdir(files)
    # an address leads nowhere
    monkeypatch.setattr("soupctl.checkpoints.layout._find_elsewhere", refuse)
    spies = Spies()
    for path, returned in STUBS.items():
        module, _, name = path.rpartition(".")
        target = getattr(import_module(module), name)
        monkeypatch.setattr(path, spies.on(target, returned))
    for name in (*FORWARDED, *HELD_BACK):
        spy = spies.on(getattr(verbs, name), (), forward=name in FORWARDED)
        monkeypatch.setattr(verbs, name, spy)
    return partial(spies.observe, read=capsys.readouterr)


@pytest.mark.parametrize(("command", "parameter"), OPTIONS, ids=IDS)
def test_an_option_reaches_the_function_that_does_the_work(observed, command, parameter):
    words = OTHER_WORDS.get((command, parameter.name), WORDS[command]).split()

    plain = observed([command, *words])
    other = observed([command, *words, *given(parameter, VALUES)])

    _, of_id = WITH_IDS.get(command, ("", ""))
    name = of_id if parameter.name == "hub" else NAMES.get(parameter.name, parameter.name)
    allowed = {parameter.name, name}
    allowed |= {"printed"} if parameter.name in PRINTED else set()
    assert changed(plain, other) & allowed


def test_every_command_is_tested():
    group: Any = commands()

    assert set(group.commands) == set(WORDS) | ELSEWHERE


def test_commands_that_read_addresses_take_ids_of_the_hub():
    assert {command for command, parameter in OPTIONS if parameter.name == "hub"} == {*WITH_IDS}

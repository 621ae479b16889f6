"""Every training option, on the command line or in a config, reaches the run that is prepared.

Rule 1: the options are read from the dataclasses, so a new one is tested without a word here.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from soupctl.choices import Preset, Schedule
from soupctl.cli import training_run
from soupctl.cli.app import commands
from soupctl.cli.error_report import ErrorStyle
from soupctl.cli.training_options import ReportOptions
from soupctl.errors import UsageError
from soupctl.training.bank_options import PATCH_DMP, PRESETS
from soupctl.training.option_fields import CommandOptions, options_of
from soupctl.training.options import FINETUNE

COMMANDS = {"finetune": FINETUNE, "patch-dmp": PATCH_DMP}
WORDS = ("base", "--data", "images", "-o", "run")

ON_COMMAND_LINE = [
    (command, shown.name) for command, all_ in COMMANDS.items() for shown in all_.on_command_line
]
IN_CONFIG = [
    (command, each.name)
    for command, all_ in COMMANDS.items()
    for kind in all_.kinds
    for each in fields(kind)
]


class Stopped(Exception):
    """Ends a command where its run would be prepared."""


@dataclass
class Received:
    """What a command hands on."""

    report: Any = None
    request: Any = None
    more: Any = None

    def values(self, options: CommandOptions) -> dict[str, Any]:
        """The values of all options by name."""
        objects = (self.request.options, self.request.patch)
        kinds = {type(each): each for each in objects if each is not None}
        return {
            name: getattr(kinds[kind], name) for kind in options.kinds for name in options_of(kind)
        }


@pytest.fixture
def run(monkeypatch):
    """Runs a command up to where its run is prepared."""

    def command(name: str, *words: object) -> Received:
        received = Received()

        def prepare(requests, accelerator):
            (received.request,) = requests
            raise Stopped

        def run_training(base, run, report, *options, **more):
            received.report = report
            received.more = more
            training_run.run_training(base, run, report, *options, **more)

        start = "soupctl.training.distributed.start_accelerator"
        monkeypatch.setattr(start, lambda options: None)
        monkeypatch.setattr("soupctl.training.setup.prepare", prepare)
        for module in ("finetune", "patch_dmp"):
            monkeypatch.setattr(f"soupctl.cli.{module}.run_training", run_training)
        arguments = [name, *map(str, words)]
        with pytest.raises(Stopped):
            commands().main(
                args=arguments, prog_name="soupctl", standalone_mode=False, obj=ErrorStyle()
            )
        return received

    return command


def another(options: CommandOptions, name: str) -> Any:
    """A value of an option that is not its default."""
    (kind,) = (each for each in options.kinds if name in options_of(each))
    type_ = typing.get_type_hints(kind)[name]
    type_ = type_ if isinstance(type_, type) else typing.get_args(type_)[0]
    default = options.defaults.get(name, getattr(kind(), name))
    if typing.get_origin(typing.get_type_hints(kind)[name]) is tuple:
        return ("one", "two") if type_ is str else (7, 9)
    if issubclass(type_, StrEnum):
        return next(each for each in type_ if each is not default)
    texts = {"timesteps": "0:7", "ema_tracks": "0.05,0.1"}
    return {bool: not default, int: 7, float: 0.25, str: texts.get(name, "0-1")}[type_]


def as_words(name: str, value: Any) -> list[str]:
    """An option and its value on a command line."""
    dashed = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{dashed}" if value else f"--no-{dashed}"]
    values = value if isinstance(value, tuple) else (value,)
    return [word for each in values for word in (f"--{dashed}", str(each))]


def as_toml(name: str, value: Any) -> str:
    """A line of a config."""
    text = {bool: str(value).lower(), tuple: list(value) if isinstance(value, tuple) else ""}
    shown = text.get(type(value), repr(str(value)) if isinstance(value, str) else value)
    return f"{name.replace('_', '-')} = {shown}\n"


@pytest.mark.parametrize(("command", "name"), ON_COMMAND_LINE)
def test_an_option_on_the_command_line_reaches_the_run_and_changes_no_other(run, command, name):
    options = COMMANDS[command]
    value = another(options, name)

    plain = run(command, *WORDS).values(options)
    given = run(command, *WORDS, *as_words(name, value)).values(options)

    assert plain[name] != value
    assert {**plain, name: value} == given


@pytest.mark.parametrize(("command", "name"), IN_CONFIG)
def test_an_option_in_a_config_reaches_the_run_and_changes_no_other(run, tmp_path, command, name):
    options = COMMANDS[command]
    value = another(options, name)
    config = tmp_path / "run.toml"
    config.write_text(as_toml(name, value))

    plain = run(command, *WORDS).values(options)
    given = run(command, *WORDS, "--config", config).values(options)

    assert plain[name] != value
    assert {**plain, name: value} == given


@pytest.mark.parametrize("command", COMMANDS)
def test_data_output_and_resume_reach_the_run(run, command):
    plain = run(command, *WORDS).request
    given = run(command, "other", "--data", "b", "-o", "c", "--resume", "never").request

    assert (Path("base"), Path("images"), Path("run"), "auto") == (
        plain.base,
        plain.data,
        plain.output,
        plain.resume,
    )
    assert given == replace(
        plain, base=Path("other"), data=Path("b"), output=Path("c"), resume="never"
    )


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", [each.name for each in fields(ReportOptions)])
def test_an_option_of_the_report_reaches_it(run, command, name):
    dashed = f"--{name.replace('_', '-')}"

    assert ReportOptions() == run(command, *WORDS).report
    assert replace(ReportOptions(), **{name: True}) == run(command, *WORDS, dashed).report


def test_the_command_line_wins_over_the_config_and_the_config_over_a_preset(run, tmp_path):
    config = tmp_path / "run.toml"
    config.write_text("lr = 0.5\nbalance = 0.5\n")
    words = (*WORDS, "--preset", "official", "--config", config, "--balance", 2)

    values = run("patch-dmp", *words).values(PATCH_DMP)

    preset = PRESETS[Preset.OFFICIAL]
    assert {**preset, "lr": 0.5, "balance": 2.0} == {name: values[name] for name in preset}
    own = {"lr": 1e-3, "lr_schedule": Schedule.COSINE, "gate_lr_scale": 0.1, "ema": True}
    assert own.items() <= run("patch-dmp", *WORDS).values(PATCH_DMP).items()


@pytest.mark.parametrize(("given", "in_config"), [("steps", "epochs"), ("epochs", "steps")])
def test_a_length_on_the_command_line_replaces_the_other_one_in_the_config(
    run, tmp_path, given, in_config
):
    config = tmp_path / "run.toml"
    config.write_text(f"{in_config} = 3\n")

    values = run("finetune", *WORDS, "--config", config, f"--{given}", 5).values(FINETUNE)

    assert (5, None) == (values[given], values[in_config])


@pytest.mark.parametrize(("command", "name"), IN_CONFIG)
def test_a_mistyped_option_in_a_config_names_the_right_one(tmp_path, command, name):
    config = tmp_path / "run.toml"
    dashed = name.replace("_", "-")
    config.write_text(f"{dashed}x = 1\n")

    with pytest.raises(UsageError) as refusal:
        commands().main(
            args=[command, *WORDS, "--config", str(config)], standalone_mode=False, obj=ErrorStyle()
        )

    expected = f"{config}: '{dashed}x' is not an option; did you mean {dashed}?"
    assert expected == refusal.value.message()


def test_every_problem_of_a_config_is_in_one_message(tmp_path):
    config = tmp_path / "run.toml"
    config.write_text('step = 1\nlr = "fast"\nema = 1\n')

    with pytest.raises(UsageError) as refusal:
        commands().main(
            args=["finetune", *WORDS, "--config", str(config)], standalone_mode=False, obj=None
        )

    assert 3 == str(refusal.value).count(str(config))


def test_options_cannot_be_built_from_an_unknown_name():
    with pytest.raises(TypeError, match="no such option: learning_rate"):
        FINETUNE.built({"learning_rate": 1})


def test_the_address_of_workers_arrives(run):
    assert {"ray": "head:6379"} == run("finetune", *WORDS, "--ray", "head:6379").more

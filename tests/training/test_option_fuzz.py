"""Whatever an option or a config holds is accepted, or refused in one line: no internal error."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from soupctl.errors import InputError, SoupError, UsageError
from soupctl.images.request import SampleRequest
from soupctl.training.bank_options import PATCH_DMP
from soupctl.training.config_file import read_config
from soupctl.training.option_fields import options_of
from soupctl.training.options import FINETUNE

COMMANDS = {"finetune": FINETUNE, "patch-dmp": PATCH_DMP}
NAMES = sorted({name for kind in PATCH_DMP.kinds for name in options_of(kind)})
HUGE = int("9" * 400)

numbers = st.one_of(
    st.integers(),
    st.sampled_from([HUGE, -HUGE, 0, -1, 1, 2**31, 2**63, 2**64]),
    st.floats(),
    st.sampled_from([1e308, -1e308, 5e-324]),
)
values = st.one_of(numbers, st.booleans(), st.text(), st.lists(st.text(), max_size=3))
"""What TOML can hold, but for tables and dates."""


def written(value: object) -> str:
    """The value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(letter):08x}" for letter in value) + '"'
    return str(value)


assignments = st.builds(
    lambda name, value: f"{name} = {written(value)}",
    st.sampled_from(NAMES).map(lambda name: name.replace("_", "-")),
    values,
)
odd_lines = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            "classes = " + "[" * 100_000,
            ".".join("a" for _ in range(8_000)) + " = 1",
            "steps." + ".".join("a" for _ in range(8_000)) + " = 1",
            ".".join("a" for _ in range(100_000)) + " = 1",
            "[" + " . ".join('"a"' for _ in range(20_000)) + "]",
            "a" * 200_000 + " = 1",
            "steps = " + "9" * 5_000,
            "lr = " + "9" * 400,
            "lr = 1e400",
            "steps = 1979-05-27",
            "steps = 0xFFFFFFFFFFFFFFFFFFFF",
            "[steps]",
            "[[classes]]",
            "steps = {a = 1}",
            'prompt = "' + "x" * 100_000 + '"',
        ]
    ),
)
texts = st.lists(st.one_of(assignments, odd_lines), max_size=4).map("\n".join)


def refusal_of(command: str, path: Path, content: str) -> SoupError | None:
    """The refusal of a config; None if its options can be used."""
    path.write_text(content, "utf-8", "replace")
    try:
        COMMANDS[command].built(read_config(path, COMMANDS[command].kinds))
    except SoupError as error:
        return error
    return None


def refusal(make: Callable[..., object], *values: object) -> str:
    """The message by which values are refused; empty if they can be used."""
    try:
        make(*values)
    except UsageError as error:
        return error.message()
    return ""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_config_is_read_or_refused_in_one_line(command, tmp_path):
    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(texts)
    @example(f"steps = {HUGE}\nseed = {HUGE}\nlr = {HUGE}\nwarmup = {-HUGE}")
    @example("steps = true\nlr = inf\nweight-decay = nan\nseed = -1")
    def check(content: str) -> None:
        error = refusal_of(command, tmp_path / "c.toml", content)
        assert error is None or error.exit_code in {2, 3}
        assert error is None or "\n" not in error.message()
        assert error is None or len(error.message()) < 3_000

    check()


@pytest.mark.parametrize("command", COMMANDS)
def test_values_that_python_gives_are_used_or_refused(command):
    known = {name: kind for kind in COMMANDS[command].kinds for name in options_of(kind)}
    bounded = [name for name, kind in known.items() if options_of(kind)[name].bounds is not None]

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(st.dictionaries(st.sampled_from(bounded), numbers, max_size=3))
    def check(options: dict[str, float]) -> None:
        assert "\n" not in refusal(COMMANDS[command].built, options)

    check()


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    st.lists(st.text(), max_size=2),
    st.lists(st.integers(), max_size=2),
    *[st.one_of(st.integers(), st.sampled_from([HUGE, -HUGE]))] * 2,
    st.floats(),
    st.one_of(st.integers(), st.just(HUGE)),
)
@example(["\udcff"], [HUGE], 1, 1, 1.0, 0)
def test_a_request_for_images_is_used_or_refused(prompts, classes, images, steps, guidance, seed):
    request = (tuple(prompts), tuple(classes), images, steps, guidance, seed)

    assert "\n" not in refusal(SampleRequest, *request)


def test_a_config_that_is_not_toml_is_refused_as_such(tmp_path):
    deep = refusal_of("finetune", tmp_path / "c.toml", "classes = " + "[" * 100_000)

    assert isinstance(deep, InputError)
    assert "is not valid TOML: it is nested too deeply" in deep.message()
    with pytest.raises(RecursionError):
        tomllib.loads("classes = " + "[" * 100_000)


VALUES = ("-" + "9" * 400, "9" * 5_000, "1e400", "nan", "", "0x10")
EXPECTED = {
    "--steps": "must be at most 1000000000",
    "--seed": "must be at most 18446744073709551615",
    "--batch-size": "must be at most 65536",
    "--lr": "must be a finite number",
}


@pytest.mark.parametrize("option", EXPECTED)
def test_a_number_of_400_digits_is_refused(option, soupctl):
    done = soupctl("finetune", "base", "--data", ".", "-o", "run", option, "9" * 400)

    assert 2 == done.code
    assert EXPECTED[option] in done.err
    assert 1 == done.err.count("\n")


def test_no_value_of_an_option_is_an_internal_error(soupctl):
    training = ("--data", ".", "-o", "run", "-n")
    options = ("--steps", "--epochs", "--resolution", "--cond-drop", "--seed", "--save-every")
    for number, value in enumerate(VALUES):
        commands = (
            ("finetune", "base", *training, f"{options[number]}={value}"),
            ("patch-dmp", "base", *training, f"--gate-topk={value}"),
            ("sample", "base", "-o", "out", f"--{'seed' if number % 2 else 'images'}={value}"),
            ("stack", "bank", "-o", "out", f"-w={value}"),
        )[number % 2 :: 2]
        for words in commands:
            done = soupctl(*words)
            assert done.code in {2, 3}, (words, done.err)
            assert 1 == done.err.count("\n"), (words, done.err)


@pytest.mark.parametrize("name", ["g.jpg", "a.b/g.TIFF"])
def test_a_picture_that_is_no_png_is_refused(name, soupctl, bases):
    done = soupctl("sample", bases["plain"], "-o", name, "--images", 1, "--steps", 1)

    assert (2, False) == (done.code, Path(name).exists())
    assert f"soupctl: {name}: is not a name for a PNG file (end it in .png" in done.err


def test_a_prompt_that_is_not_utf_8_is_refused(soupctl, bases, shards):
    drawn = soupctl("sample", bases["text"], "-o", "a.png", "--prompt", "\udcff")
    words = ("--data", shards["text"], "-o", "run", "--steps", 1, "--prompt", "\udcff")
    trained = soupctl("finetune", bases["text"], *words)

    assert (2, 2) == (drawn.code, trained.code)
    assert "is not valid UTF-8" in drawn.err
    assert "is not valid UTF-8" in trained.err

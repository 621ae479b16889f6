"""Command lines of odd words: every command ends with a documented exit code and one line.

Rule 1: the options are those of the commands themselves, so a new one is tried without a change.
Rule 2: training commands need torch, and are tried in tests/training.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import Server
from safetensors.numpy import save_file

from soupctl.cli.app import COMMANDS, commands

TRIED = (
    *("avg", "commit", "apply", "delta", "ema", "run", "add", "subtract", "swap", "has", "log"),
    *("verify", "attest", "bom", "push", "inspect", "diff", "hash", "help", "lora"),
    *("convert", "merge", "record", "report", "bench"),
    "doctor",
    *("greedy", "rank", "search"),
)
"""All commands but those that train or sample, and `demo`, which has no odd words to take."""
NO_NETWORK = {
    "RAY_ADDRESS": "127.0.0.1:1",
    "RES_OPTIONS": "timeout:1 attempts:1",
    "HF_HUB_OFFLINE": "1",
}
"""Where `--ray auto` finds nothing, how long a name is looked up, and that the hub is not asked."""
CODES = range(9)
EXAMPLES = 150
LINE = "soupctl: "

NUMBERS = (
    *(
        "0",
        "-0",
        "1",
        "-1",
        "2",
        "0.5",
        "1/3",
        "-1/3",
        "1/0",
        "0/0",
        "70%",
        "1e-3",
        "1e400",
        "-1e-400",
    ),
    *("nan", "inf", "-inf", "0x10", "1_0", "٣", "²", " 1", "1 ", "1,2", ",", "1,,2", "9" * 400),
    *(
        "9" * 5000,
        "0." + "9" * 400,
        "1e" + "9" * 100,
        "4294967296",
        str(2**64),
        "1M",
        "1.5GiB",
        "0B",
    ),
)
WORDS = (
    *(
        "",
        " ",
        "-",
        "--",
        "-x",
        "--wat",
        "=",
        "@",
        "@1",
        "a.st@",
        "a.st@0",
        "a.st@1e-3",
        "@@",
        "*",
        "?",
    ),
    *(
        "[",
        "[!",
        "[a",
        "**" * 200,
        "w*",
        "{",
        "}",
        "{}",
        "{name}",
        "{0}",
        "{name!r:>9999}",
        "%s",
        "%n",
    ),
    *("a\nb", "a\x1b[31mb", "a\x7fb", "\x9b", "\udcff", "é", "\u202e", "\U0001f372", "a" * 5000),
    *("~", ".", "..", "../here", "/", "//", "./a.st", "a.st/", "a.st/x", "none.st", "none/none.st"),
    *("blake3:", "blake3:0", "blake3:" + "0" * 64, "sha256:" + "0" * 64, "0" * 64, "0" * 12, "f"),
    *("F16", "bf16", "f64", "F8_E4M3", "I32", "cpu", "cuda", "cuda:", "cuda:9", "auto", "first"),
    *("header", "digest", "rebuild", "unet", "fp16", "steps", "true", "null", "a,b", "w", "list"),
)
FILES = (
    "a.st",
    "b.st",
    "soup.st",
    "kept.st",
    "sharded",
    "empty",
    "noise.st",
    "text.st",
    "list",
    "odd.st",
    "recipe.toml",
    "blocks.toml",
    "cats.delta",
    "lora.st",
)
OUTPUTS = (
    "out.st",
    "out",
    "soup.st",
    "a.st",
    "-",
    "",
    ".",
    "none/out.st",
    "out-{name}.st",
    "x.bin",
)

CLASSIC = ",".join(["0.5"] * 26)
OWN_VALUES = {
    "--blocks": (
        *("blocks.toml", "recipe.toml", "a.st", "noise.st", "empty", "none.toml", "a\nb.toml"),
        *("WRAP08", "wrap08", CLASSIC, CLASSIC + ",1/0", "0,1", "," * 25, "nan," * 25 + "0"),
    ),
    "--sweep": (
        *("0:1:1/4", "0:1:0", "1:0:1/4", "1:0:-1/4", "0:1:1e-18", "0:0:1", "0:1", "0:1:1:1"),
        *("::", "nan:1:1", "0:1e400:1", "-1:2:1/2", "0:1:" + "9" * 400, "٣:1:1"),
    ),
    "--quantize": ("fp8-scaled", "FP8-SCALED", "fp8", "fp8_scaled"),
    "--pad": ("w", "*", "steps", "none*"),
    "--take": (
        *("w=b.st", "w=odd.st", "*=none.st", "steps=empty", "w=", "=b.st", "w=-", "w=noise.st"),
        *("w=b.st@2", "w=cats.delta", "none*=b.st", "w=w=b.st", "w=text.st"),
    ),
    "--config-from": ("b.st", "odd.st", "b.st@2", "sharded", "noise.st"),
    "--dtype-for": ("w=F64", "w=I32", "w=", "=F64", "none*=F32"),
    "--layout": ("ldm", "diffusers", "LDM", "sd"),
    "--set": ("title=x", "title=", "=x", "title", "soupctl=x", "soupctl.sum=x", "__metadata__=x"),
    "--unset": ("format", "none", "", "soupctl"),
    "--score": (
        "echo 1 {}",
        "echo nan {}",
        "exit 3 # {}",
        "wc -c < '{}'",
        "{}",
        '"{}',
        "echo $((1/0)) {}",
    ),
    "--scorer": ("math:sqrt", "len:len", "none.py:f", "text.st:f", ":", "os:"),
    "--ray": ("auto", "127.0.0.1:1", "[::1]:1", "ray://127.0.0.1:1", "a.st:1", "::1:1"),
    "--plot": ("a.png", "x.png", "x.PNG", "none/x.png"),
    "--jobs": ("2", "0", "257", "1.5"),
    "--timeout": ("5", "1/2", "1e-9", "0", "1e400"),
    "--method": ("ties", "dare", "model-stock", "slerp", "TIES", "linear"),
    "--density": ("0.5", "0", "1", "1.1", "0.5,0.2", "1e-300"),
    "--lambda": ("1", "0", "-1", "1e308"),
    "--seed": ("0", "-1", "18446744073709551616"),
    "--decay": ("0.9", "1/3", "0.999999999"),
    "--sigma-rel": ("0.1", "0.001", "1e308", "1e-308"),
    "--steps": ("500,1000", "1000,500", "500,500", "0,1", "999999999999,1"),
    "--sample": ("5%", "100%", "101%", "0%", "1/3", "-5%"),
    "--max-duration": ("10m", "0s", "2h", "1d", "999999999h"),
    "--sign-with": ("text.st", "noise.st", "a.st", "empty"),
    "--attestation": ("text.st", "noise.st", "a.st", "empty", "list"),
    "--stored-sigma-rel": ("0.05,0.1", "0.1,0.1", "0.05,0.1,0.2"),
}
"""Values near those that an option takes, by the name of the option."""

words = st.sampled_from(WORDS) | st.sampled_from(NUMBERS) | st.sampled_from(FILES)


def options(command: str) -> dict[str, bool]:
    """The options of a command, and whether each takes a value."""
    found = commands().commands[command]
    return {
        name: not parameter.is_flag
        for parameter in found.params
        if parameter.param_type_name == "option"
        for name in (*parameter.opts, *parameter.secondary_opts)
    }


OPTIONS = {command: options(command) for command in TRIED}


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command with files and words, some of its options, and odd values of them."""
    command = draw(st.sampled_from(TRIED))
    line = draw(st.lists(st.sampled_from(FILES) | words, max_size=3))
    names = sorted(OPTIONS[command]) or ["--wat"]
    for name in draw(st.lists(st.sampled_from(names), max_size=4)):
        if name in {"-o", "--output"}:
            line += [name, draw(st.sampled_from(OUTPUTS))]
        elif OPTIONS[command].get(name):
            own = OWN_VALUES.get(name)
            value = draw(words if own is None else words | st.sampled_from(own))
            line += [f"{name}={value}"] if draw(st.booleans()) else [name, value]
        else:
            line.append(name)
    if "-o" in OPTIONS[command] and draw(st.booleans()):
        line += ["-f", "-o", draw(st.sampled_from(OUTPUTS))]
    return [command, *draw(st.permutations(line))] if draw(st.booleans()) else [command, *line]


RECIPE = """inputs = {a = "a.st", b = "b.st"}
[steps]
half = {average = ["a", "b"]}
whole = {base = "a", add = ["half"], scales = [0.5]}
"""


@dataclass
class Tried:
    """Runs command lines in a folder of files, which it keeps as they are."""

    server: Server
    place: Path

    def prepare(self) -> None:
        """The files that command lines name."""
        here = self.place / "here"
        here.mkdir()
        os.chdir(here)
        for name, value in (("a.st", 1), ("b.st", 3), ("odd.st", 5)):
            arrays = {"w": np.full(3, value, "f2"), "steps": np.full(1, value // 5, "i8")}
            save_file(arrays | ({"more": np.ones(1, "f4")} if name == "odd.st" else {}), name)
        Path("noise.st").write_bytes(bytes(range(256)) * 4)
        Path("text.st").write_text("version https://git-lfs.github.com/spec/v1\n")
        Path("list").write_text("a.st\nb.st@2\n\n\x1b\n" + "9" * 500 + "\n")
        Path("empty").mkdir()
        Path("recipe.toml").write_text(RECIPE)
        Path("blocks.toml").write_text("default = [1, 1]\n[blocks]\nw = [0.25, '3/4']\n")
        save_file({"net.weight": np.ones((3, 2), "f2")}, "net.st")
        factors = {"lora_up": np.ones((3, 1), "f2"), "lora_down": np.ones((1, 2), "f2")}
        save_file({f"net.{role}.weight": each for role, each in factors.items()}, "lora.st")
        for line in (
            ["delta", "b.st", "a.st", "-o", "cats.delta"],
            ["apply", "net.st", "lora.st@1/2", "-o", "applied.st"],
            ["avg", "a.st", "b.st", "-o", "soup.st"],
            ["avg", "a.st", "b.st", "--keep-sum", "-o", "kept.st"],
            ["avg", "a.st", "--shard-size", "8B", "-o", "sharded"],
        ):
            code, _, error = self.run(line)
            assert (0, "") == (code, error)

    def run(self, line: list[str]) -> tuple[int, str, str]:
        """The exit code of a command line, and what it says on stdout and stderr."""
        streams = [self.place / name for name in ("in", "out", "err")]
        for stream in streams:
            stream.write_bytes(b"")
        request = {
            "arguments": line,
            "folder": str(self.place / "here"),
            "umask": 0o022,
            "environment": {"COLUMNS": "80", "NO_COLOR": "1", **NO_NETWORK},
            "limits": {},
            "streams": [str(stream) for stream in streams],
        }
        code = self.server.wait(self.server.start(request))
        out, error = (stream.read_bytes().decode("utf-8", "replace") for stream in streams[1:])
        return code, out, error

    def contents(self) -> dict[str, bytes]:
        """Every file in the folder."""
        here = self.place / "here"
        found = [path for path in sorted(here.rglob("*")) if path.is_file()]
        return {str(path.relative_to(here)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def tried(tmp_path_factory) -> Iterator[Tried]:
    before = Path.cwd()
    script = Path(__file__).parents[1] / "cli" / "server.py"
    runs = Tried(Server.launch(script), tmp_path_factory.mktemp("tried"))
    runs.prepare()
    yield runs
    runs.server.close()
    os.chdir(before)


def require_clean_end(code: int, error: str, line: list[str]) -> None:
    """Assert a documented exit code, and a refusal of one line or one JSON object."""
    assert code in CODES, (line, code, error)
    assert "Traceback" not in error, line
    if code < 2:
        return
    *_, last = error.splitlines() or [""]
    if error.startswith("{"):
        assert code == json.loads(error)["code"], line
    else:
        assert last.startswith(LINE), (line, error)
        assert last.isprintable(), (line, error)


def test_commands_of_odd_words_end_with_a_documented_code_and_one_line(tried, record_property):
    kept = tried.contents()
    safe = {name for name in FILES if Path(name).is_file()} - {"soup.st", "kept.st"}

    @settings(max_examples=EXAMPLES)
    @given(command_lines())
    def fuzzed(line: list[str]) -> None:
        code, _, error = tried.run(line)

        require_clean_end(code, error, line)
        found = tried.contents()
        # a soup may be replaced, by -f; what else there was stays, and no partial file is left
        assert {name: kept[name] for name in safe} == {name: found.get(name) for name in safe}, line
        assert not [name for name in found if name.endswith(".partial")], line

    fuzzed()
    record_property("examples", EXAMPLES)


VALUES = (*NUMBERS, *WORDS)
SHARE = 20
"""One of so many values is tried with each option, others with the next."""
SHARING = 4
"""As many commands with the same option share its values, since most read it in the same way."""
HOLDERS = {
    name: [command for command in TRIED if name in OPTIONS[command]]
    for name in sorted({name for each in OPTIONS.values() for name in each})
}
"""The commands that have an option, by its name."""


def values_of(name: str, command: str) -> tuple[str, ...]:
    """The values of an option that a command is given, and others that have it are not."""
    sharing = min(len(HOLDERS[name]), SHARING)
    turn = HOLDERS[name].index(command) % sharing
    start = [*HOLDERS].index(name) % SHARE + SHARE * turn
    return (*OWN_VALUES.get(name, ())[turn::sharing], *VALUES[start :: SHARE * sharing])


@pytest.mark.parametrize("command", TRIED)
def test_odd_values_of_every_option_end_with_a_documented_code_and_one_line(tried, command):
    inputs = {
        "has": ["soup.st", "a.st"],
        "subtract": ["soup.st", "a.st"],
        "add": ["soup.st", "b.st"],
    }
    inputs |= {"swap": ["soup.st", "a.st", "b.st"], "help": [], "avg": ["a.st", "b.st"]}
    inputs |= {"apply": ["a.st", "cats.delta"], "delta": ["b.st", "a.st"], "run": ["recipe.toml"]}
    inputs |= {"merge": ["a.st", "b.st", "--method", "ties", "--base", "soup.st"]}
    inputs |= {"record": ["b.st", "--data", ".", "--base", "a.st", "--steps", "1"]}
    inputs |= {"push": ["soup.st", "hf://alone"]}
    inputs |= {"ema": ["a.st", "b.st"], "lora": ["extract", "b.st", "a.st"]}
    inputs |= {"greedy": ["a.st", "b.st", "--score", "echo 1 # {}"]}
    inputs |= {"search": ["a.st", "b.st", "--score", "echo 1 # {}", "--trials", "2"]}
    inputs |= {"rank": ["soup.st", "-f", "--score", "echo 1 # {}"]}
    output = ["-n", "-o", "new.st"] if "-o" in OPTIONS[command] else []
    # it has no plan to show, and may make its file
    output = ["-f", "-o", "new.st"] if command == "lora" else output
    for name, takes_value in OPTIONS[command].items():
        for value in values_of(name, command) if takes_value else ("",):
            option = [f"{name}={value}"] if takes_value else [name]
            target = ["-n", "-o", "new-{t}.st"] if name == "--sweep" else output
            line = [command, *inputs.get(command, ["soup.st"]), *target, *option]
            code, _, error = tried.run(line)

            require_clean_end(code, error, line)


def test_every_command_is_tried_here_or_trains():
    assert {"finetune", "patch-dmp", "stack", "sample", "demo"} == COMMANDS.keys() - set(TRIED)

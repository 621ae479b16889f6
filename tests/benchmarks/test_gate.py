"""A benchmark whose numbers are wrong is refused before anything is measured."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import run
from cases import CASES
from checkpoints import encoded, header
from gate import LAYOUT, RedGate, expected_average, require_right_numbers, rounded_bits
from subjects import Subjects
from trial import measured

BENCHMARKS = Path(run.__file__).parent

# a soupctl that computes as the gate does, with one fault of choice
FAKE = """
import argparse, sys
from pathlib import Path
fault = sys.argv[1]
if sys.argv[2] != "avg":
    sys.exit()
sys.path.insert(0, BENCHMARKS)
import gate
parser = argparse.ArgumentParser()
parser.add_argument("inputs", nargs="+", type=Path)
parser.add_argument("-o", type=Path)
parser.add_argument("-w", default="1,1")
parser.add_argument("--threads", default="2")
parser.add_argument("--max-memory")
parser.add_argument("-f", action="store_true")
options = parser.parse_args(sys.argv[3:])
if fault == "refuses":
    sys.exit("no, thank you")
if not options.inputs[0].name.startswith("gate"):
    content = bytearray(options.inputs[0].read_bytes())
    if fault == "threads, later":
        content[-1] ^= int(options.threads) & 1
    options.o.write_bytes(content)
    sys.exit()
weights = [int(weight) for weight in options.w.split(",")]
average = gate.expected_average(options.inputs, weights)
opening = gate.header(gate.LAYOUT)
data = bytearray(b"".join(content for _, _, content in average.values()))
if fault == "one bit":
    data[-2] ^= 1
if fault == "threads" and options.threads == "3":
    opening = opening.replace(b"pt", b"tp")
options.o.write_bytes(opening + data)
"""


def fake_soupctl(folder: Path, fault: str) -> list[str]:
    """The command of a soupctl with one fault."""
    script = folder / "fake.py"
    script.write_text(FAKE.replace("BENCHMARKS", repr(str(BENCHMARKS))))
    return [sys.executable, str(script), fault]


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("one bit", "1 of 701 elements of f16.weights are wrong"),
        ("threads", "the file depends on threads"),
        ("refuses", "ended with 1: no, thank you"),
    ],
)
def test_a_fault_makes_the_gate_red(fault: str, complaint: str, tmp_path: Path) -> None:
    """One wrong bit, one byte that depends on the threads, or a refusal is enough."""
    with pytest.raises(RedGate, match=complaint):
        require_right_numbers(fake_soupctl(tmp_path, fault), tmp_path)


def run_benchmark(folder: Path, fault: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    """How `run.py first-run` ended with such a soupctl, and where its result would lie."""
    result = folder / "result.json"
    data = folder / "data"
    data.mkdir()
    arguments = ["first-run", "--runs", "2", "--folder", str(data), "-o", str(result)]
    soupctl = shlex.join(fake_soupctl(folder, fault))
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "run.py"), *arguments, "--soupctl", soupctl],
        capture_output=True,
        text=True,
        check=False,
    )
    return done, result


def test_a_red_gate_refuses_the_run(tmp_path: Path) -> None:
    """Exit code 1, no table and no result file."""
    done, result = run_benchmark(tmp_path, "one bit")

    assert 1 == done.returncode
    assert "" == done.stdout
    assert "nothing is reported" in done.stderr
    assert not result.exists()


def test_output_that_depends_on_the_threads_is_refused(tmp_path: Path) -> None:
    """Also where the small checkpoints of the gate did not show it."""
    case = next(case for case in CASES if case.name == "first-run")
    subjects = Subjects(tuple(fake_soupctl(tmp_path, "threads, later")), sys.executable)

    with pytest.raises(RedGate, match="first-run: the output depends on the threads"):
        measured(case, subjects, tmp_path, runs=2)


def test_a_green_run_keeps_its_figures_and_no_names(tmp_path: Path) -> None:
    """The result has the gate, the case, its runs and the machine; no path and no leftover data."""
    done, path = run_benchmark(tmp_path, "none")

    assert 0 == done.returncode, done.stderr
    result = json.loads(path.read_text())
    assert 10_000 < result["gate"]["elements_right"]
    assert ["first-run"] == [case["case"] for case in result["cases"]]
    assert 2 == len(result["cases"][0]["soupctl"]["runs"])
    assert 0 < result["cases"][0]["peak_anonymous_mib"]
    assert {"cpu", "cores", "memory_gib", "filesystem", "kernel"} == result["machine"].keys()
    assert str(tmp_path) not in path.read_text()
    assert [] == list((tmp_path / "data").iterdir())


@pytest.mark.parametrize(("dtype", "float_type"), [("F16", np.float16), ("F32", np.float32)])
def test_the_reference_rounds_as_hardware_does(dtype: str, float_type: type) -> None:
    """Doubles of every magnitude, ties and subnormals among them, against NumPy's conversion."""
    generator = np.random.default_rng(7)
    low, high = (-27, 15) if dtype == "F16" else (-152, 127)
    spread = generator.standard_normal(3_000) * 2.0 ** generator.integers(low, high - 2, 3_000)
    grid = np.arange(-300, 300) * 2.0 ** (low + 1)
    above_one = 1 + np.arange(200) * 2.0 ** (-12 if dtype == "F16" else -25)
    values = np.concatenate([spread, grid, above_one])
    found = b"".join(rounded_bits(Fraction(value), dtype) for value in values.tolist())

    assert values.astype(float_type).tobytes() == found


@pytest.mark.parametrize(
    ("exact", "bits"),
    [
        (Fraction(1), 0x3F80),
        (Fraction(257, 256), 0x3F80),
        (Fraction(259, 256), 0x3F82),
        (Fraction(-1, 2**134), 0x8000),
        (Fraction(3, 2**134), 0x0002),
        (Fraction(0), 0x0000),
    ],
)
def test_the_reference_rounds_bfloat16_to_nearest_even(exact: Fraction, bits: int) -> None:
    """Ties to even, subnormals kept, a sign kept where a result rounds to zero."""
    assert bits.to_bytes(2, "little") == rounded_bits(exact, "BF16")


def test_the_reference_weighs(tmp_path: Path) -> None:
    """(2 x 1 + 1 x 4) / 3 = 2, in every dtype."""
    paths = []
    for value in (1, 4):
        path = tmp_path / str(value)
        values = [encoded(np.full(t.size, value, np.float32), dtype) for t, dtype in LAYOUT]
        path.write_bytes(header(LAYOUT) + b"".join(part.tobytes() for part in values))
        paths.append(path)
    average = expected_average(paths, (2, 1))

    for tensor, dtype in LAYOUT:
        expected = encoded(np.full(tensor.size, 2, np.float32), dtype).tobytes()
        assert (dtype, tensor.shape, expected) == average[tensor.name]

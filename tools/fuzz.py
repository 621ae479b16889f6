"""Fuzz the readers of files and options, guided by coverage, for as long as one likes.

    pip install atheris
    python tools/fuzz.py 600            # ten minutes, shared by all readers
    python tools/fuzz.py 60 ledger sum  # half a minute for each of two

It prints a line for each reader, and keeps what makes one fail in a folder `findings`.
tests/attacks/readers.py lists the readers; CI tries them with Hypothesis.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FINDINGS = Path("findings")
MOST_MEMORY = 2048
"""Mebibytes that a reader may take for one input."""
SLOWEST = 10
"""Seconds that a reader may take for one input."""
LONGEST = 16_384
"""Bytes of an input at most."""
COUNT = re.compile(r"stat::number_of_executed_units: (\d+)")
COVERED = re.compile(r"cov: (\d+)")


def fuzz(name: str, seconds: int) -> str:
    """A line on what some time of fuzzing one reader found."""
    with tempfile.TemporaryDirectory() as corpus:
        words = [sys.executable, __file__, "--one", name, corpus, f"-max_total_time={seconds}"]
        limits = [f"-rss_limit_mb={MOST_MEMORY}", f"-timeout={SLOWEST}", f"-max_len={LONGEST}"]
        place = f"-artifact_prefix={FINDINGS}/{name.replace(' ', '-')}-"
        done = subprocess.run(  # noqa: S603
            [*words, *limits, place, "-print_final_stats=1"],
            stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
    inputs = sum(map(int, COUNT.findall(done.stdout)))
    covered = max(map(int, COVERED.findall(done.stdout)), default=0)
    verdict = "no finding" if done.returncode == 0 else done.stdout[-3000:]
    return f"{name}: {inputs} inputs, {covered} branches covered, {verdict}"


def fuzz_one(name: str, corpus: str, options: list[str]) -> None:
    """Fuzz one reader in this process, which ends with the first finding."""
    import atheris  # noqa: PLC0415

    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "attacks")]
    with atheris.instrument_imports(include=["soupctl", "readers"]):
        import readers  # noqa: PLC0415
    for number, sound in enumerate(readers.READERS[name].sound):
        Path(corpus, str(number)).write_bytes(sound)

    def attempt(raw: bytes) -> None:
        readers.attempt(name, raw)

    atheris.Setup([sys.argv[0], *options, corpus], attempt)
    atheris.Fuzz()


def main(seconds: int, names: list[str]) -> None:
    """Fuzz the named readers, or all, one after the other."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "attacks")]
    from readers import READERS  # noqa: PLC0415

    FINDINGS.mkdir(exist_ok=True)
    for name in names or READERS:
        sys.stdout.write(fuzz(name, seconds // len(names or READERS)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        fuzz_one(sys.argv[2], sys.argv[3], sys.argv[4:])
    else:
        main(int(sys.argv[1]), sys.argv[2:])

"""What training, banks and sampling compute stays what it was, down to the last bit.

Rule 1: tests use the command line alone, so they hold whatever moves inside.
Rule 2: recorded for each command: digests of the tensors and of the pixels that it wrote, its
losses, its ledgers and bank configs. Versions of libraries, the digests of ledgers, which cover
them, and pictures with text or axes are left out.
Rule 3: CPUs compute differently; where the fingerprint of the arithmetic differs from the recorded
one, there is nothing to compare, and the test is skipped.
Rule 4: only `GOLDEN=rewrite-digests` records anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import TrainingCommands
from making import contents, metadata
from PIL import Image

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden" / "digests" / "training.json"
ENVIRONMENT = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OMP_NUM_THREADS": "1",
}
"""Keeps torch to the instructions that all x86 CPUs have; it is read once, when torch starts."""
MORE = """
batch-size = 2
lr-schedule = "cosine"
flip = true
log-every = 1
noise-offset = 0.1
snr-gamma = 5.0
warmup = 2
"""
MIXTURE = """
batch-size = 2
gate = "mixture"
prompts = 4
gate-input = "time+class"
gate-topk = 0.5
gate-noise = true
balance = 0.5
"""
COMMANDS = (
    "finetune text --data captioned -o text-run --steps 4 --lr 1e-3 --config more.toml",
    "finetune class --data classes -o class-run --steps 2 --grad-accum 2 --no-ema --seed 3",
    "finetune dit --data classes -o dit-run --epochs 1 --save-dtype float16 --cond-drop 0.5",
    "finetune plain --data captioned -o plain-run --steps 2 --precision bf16",
    "patch-dmp dit --data classes -o token-run --steps 3 --batch-size 2 --lr 1e-2",
    "patch-dmp dit --data classes -o mixture-run --steps 3 --config mixture.toml",
    "patch-dmp text --data captioned -o text-bank-run --steps 2 --gate-lr-scale 5 --ema",
    "patch-dmp dit --data classes -o other-run --steps 3 --seed 5 --lr 1e-2",
    "stack token-run/bank@0.7 mixture-run/bank@1/3 -o banks",
    "avg token-run/bank other-run/bank@2 -o bank-soup",
    "avg dit-run/model dit -o dit-soup",
    "hash token-run/bank mixture-run/bank banks/token-run bank-soup dit-soup text-run/model dit",
    "sample dit dit-soup --steps 3 --images 2 -o dit-images",
    "sample dit --bank token-run/bank --bank banks --steps 3 --images 3 -o bank-images",
    "sample text text-run/model --prompt 'a red circle' --steps 2 --images 2 -o text-images",
    "sample class class-run/model --class 1 --guidance 1 --steps 2 --images 2 -o class-images",
)


@pytest.fixture(scope="module")
def arithmetic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrainingCommands, str]]:
    """Commands in a folder with tiny bases and shards, and the fingerprint of what they compute."""
    folder = tmp_path_factory.mktemp("golden")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        commands = TrainingCommands.launch(tmp_path_factory.mktemp("streams"))
    commands.folder = folder
    built = commands("portable.py", folder)
    assert built.code == 0, built.err
    (folder / "more.toml").write_text(MORE)
    (folder / "mixture.toml").write_text(MIXTURE)
    yield commands, built.out
    commands.server.close()


@pytest.mark.slow
def test_training_gives_the_recorded_digests(arithmetic, monkeypatch):
    commands, fingerprint = arithmetic
    monkeypatch.chdir(commands.folder)
    rewriting = os.environ.get("GOLDEN") == "rewrite-digests"
    recorded = None if rewriting else json.loads(GOLDEN.read_text())
    if recorded and recorded["fingerprint"] != fingerprint:
        pytest.skip("the arithmetic of this CPU or torch is not that of the records")

    found = {command: results(commands, command) for command in COMMANDS}

    if rewriting:
        recorded = {"fingerprint": fingerprint, "commands": found}
        GOLDEN.write_text(json.dumps(recorded, indent=1) + "\n")
    assert recorded["commands"] == found


def results(commands: TrainingCommands, command: str) -> dict[str, object]:
    """What is recorded of a command: of its new files, by their names, and of its output."""
    before = set(Path().rglob("*"))
    done = commands(*shlex.split(command))
    assert done.code == 0, (command, done.err)
    told: dict[str, object] = {"standard output": done.out.splitlines()} if done.out else {}
    for path in sorted(set(Path().rglob("*")) - before):
        told |= {f"{path}{part}": what for part, what in described(path)}
    return told


def described(path: Path) -> Iterator[tuple[str, object]]:
    """What is recorded of a file, part by part."""
    if path.suffix == ".safetensors":
        yield "", sha256(repr(sorted(contents(path).items())).encode())
        if ledger := metadata(path).get("soupctl"):
            yield " ledger", without_versions(json.loads(ledger))
    elif path.suffix == ".png" and path.stem.isdecimal():
        image = Image.open(path)
        yield "", f"{image.mode} {image.size} {sha256(image.tobytes())}"
    elif path.name in {"adapter_config.json", "stack_config.json"}:
        yield "", without_versions(json.loads(path.read_text()))
    elif path.name == "metrics.jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        yield "", [{name: row[name] for name in ("step", "loss", "grad_norm")} for row in rows]


def without_versions(value: object) -> object:
    """JSON without the versions of libraries, and without the digests of ledgers that hold them."""
    if isinstance(value, list):
        return [without_versions(each) for each in value]
    if not isinstance(value, dict):
        return value
    varying = {"soupctl_version", "digest"} if "arithmetic" in value else {"soupctl_version"}
    return {
        name: sorted(each) if name == "versions" else without_versions(each)
        for name, each in value.items()
        if name not in varying
    }


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

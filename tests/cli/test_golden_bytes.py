"""Every byte that a command writes stays what it was: files and output against recorded digests.

Rule 1: tests use the command line alone, so they hold whatever moves inside.
Rule 2: recorded for each command: the SHA-256 digest of every file that it wrote or changed, null
for a file that it removed, the digest of its standard output, and its exit code unless it is 0.
Rule 3: only `GOLDEN=rewrite-digests` records anew: who rewrites the expected texts, with
`GOLDEN=rewrite`, does not change these records by accident.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from pathlib import Path

import pytest
from drawn_bytes import model, save_model
from making import save_pipeline, save_raw

GOLDEN = Path(__file__).parents[1] / "golden" / "digests"
WITH_THREADS = ("avg", "add", "subtract", "swap", "verify", "hash")
BIG = 90_000
"""Elements of a tensor that several threads share."""

STORIES = {
    "avg": (
        "avg a.st b.st c.st -o soup.st",
        "avg a.st@2 b.st@1/3 c.st@0.5 -o weighted.st",
        "avg a.st b.st c.st -w 3,-1,1/7 -o negative.st",
        "avg a.st -o alone.st",
        "avg a.st a.st b.st -o twice.st",
        "avg a.st b.st --key 'w*' --exclude w2 -o selected.st",
        "avg a.st b.st --dtype F64 -o f64.st",
        "avg a.st b.st --dtype F32 -o f32.st",
        "avg a.st b.st --dtype F16 -o f16.st",
        "avg a.st b.st --dtype BF16 -o bf16.st",
        "avg a.st b.st --dtype F8_E5M2 -o e5m2.st",
        "avg a.st b.st --dtype F8_E4M3 -o e4m3.st",
        "avg a.st reversed.st same.st -o mixed.st",
        "avg a.st other-ids.st --on-int first -o first.st",
        "avg a.st nonfinite.st --allow-nonfinite -o nonfinite-soup.st",
        "avg big-a.st big-b.st big-c.st -w 1,2,-1/3 -o big.st",
        "avg big-a.st big-b.st --max-memory 512M -o big-2.st",
        "avg a.st --files-from list.txt -o listed.st",
        "avg a.st b.st -o -",
        "avg soup.st d.st@3 -o nested.st",
        "avg soup.st nested.st --ignore-ledger -o unrelated.st",
        "hash a.st b.st soup.st nested.st big.st reversed.st",
        "hash --sha256 a.st soup.st",
        "hash a.st soup.st --json",
        "log nested.st --tree --json",
        "verify nested.st --level rebuild --json",
        "verify mixed.st --level rebuild --json",
        "inspect nested.st --json",
        "inspect nonfinite-soup.st --json",
        "avg a.st b.st -o soup.st -f",
    ),
    "folders": (
        "avg p q r@1/2 -o soup",
        "avg p q r -o shards --shard-size 100",
        "avg p q --component unet -o unet.st",
        "avg a.st b.st c.st --shard-size 400 -o sharded",
        "avg sharded d.st -o nested.st",
        "avg p q r --keep-sum -o kept",
        "add kept s@2 -o four",
        "subtract four q -o prs",
        "subtract kept --each -o 'without-{name}'",
        "swap soup p s -o sqr",
        "hash p soup shards sharded four without-p",
        "verify soup --level rebuild --json",
        "verify prs --level rebuild --json",
        "log prs --json",
        "inspect soup --json",
        "inspect sharded --json",
    ),
    "changes": (
        "avg a.st b.st c.st -o soup.st",
        "add soup.st d.st@1/2 -o abcd.st",
        "subtract abcd.st b.st -o acd.st",
        "subtract abcd.st b.st@1/2 -o less-b.st",
        "swap acd.st a.st b.st@2 -o bcd.st",
        "add soup.st a.st@3 --again -o more-a.st",
        "subtract soup.st --each -o 'without-{name}'",
        "subtract soup.st a.st --approximate -o rounded.st",
        "add rounded.st a.st -o again.st",
        "add a.st b.st --approximate --count 3 -o guessed.st",
        "add a.st b.st@2 --approximate --total 5/2 -o weighted.st",
        "subtract bcd.st c.st -o bcd.st -f",
        "add bcd.st a.st@-1/4 -o bcd.st -f",
        "avg soup.st d.st@2 -o nested.st",
        "subtract nested.st d.st -o unnested.st",
        "add soup.st d.st -o -",
        "hash abcd.st acd.st bcd.st rounded.st unnested.st",
        "has bcd.st a.st --json",
        "log bcd.st --json",
        "log again.st --json",
        "verify bcd.st --level rebuild --json",
        "verify rounded.st --level digest --json",
        "inspect bcd.st --json",
    ),
    "kept-sums": (
        "avg a.st b.st c.st@1/3 --keep-sum -o soup.st",
        "add soup.st d.st@1/2 -o abcd.st",
        "add soup.st d.st -o plain.st --no-keep-sum",
        "subtract abcd.st b.st -o acd.st",
        "swap acd.st a.st b.st@2 -o bcd.st",
        "subtract abcd.st --each -o 'without-{name}'",
        "subtract bcd.st c.st -o bcd.st -f",
        "add bcd.st a.st@-1/4 -o bcd.st -f",
        "add plain.st a.st@2 --again --keep-sum -o summed.st",
        "avg big-a.st big-b.st -w 2,-1/3 --keep-sum -o big.st",
        "swap big.st big-a.st big-c.st -o big.st -f",
        "avg a.st b.st --dtype F32 --keep-sum -o f32.st",
        "subtract f32.st b.st -o f32-a.st",
        "hash abcd.st bcd.st big.st summed.st",
        "verify bcd.st --level rebuild --json",
        "verify big.st --level rebuild --json",
        "log bcd.st --json",
        "inspect bcd.st --json",
    ),
}


def write_ingredients() -> None:
    """Every file that the commands read."""
    for seed in "abcd":
        save_model(f"{seed}.st", seed)
        save_model(f"big-{seed}.st", f"big-{seed}", ("F16", "F32"), BIG)
    save_model("reversed.st", "e", ("F64", "F32", "BF16", "F16", "F8_E5M2", "F8_E4M3"))
    save_model("same.st", "f", ("F16",) * 6)
    tensors = model("g")
    save_raw(Path("other-ids.st"), {**tensors, "ids": ("I64", (2,), bytes(range(16)))})
    infinite = bytes.fromhex("007c00fc017e0080") + tensors["w2"][2][8:]
    save_raw(Path("nonfinite.st"), {**tensors, "w2": ("F16", (3, 20), infinite)}, pad=3)
    Path("list.txt").write_text("b.st\nc.st\n")
    for seed, name in enumerate("pqrs"):
        save_pipeline(Path(name), seed)


def state() -> dict[str, str]:
    """The SHA-256 digest of every file in the current folder."""
    files = sorted(path for path in Path().rglob("*") if path.is_file())
    return {path.as_posix(): sha256(path.read_bytes()) for path in files}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("story", STORIES)
def test_commands_write_the_bytes_that_were_recorded(soupctl, folder, story, threads):
    write_ingredients()
    found: dict[str, dict[str, str | int | None]] = {}
    before = state()
    for command in STORIES[story]:
        words = shlex.split(command)
        more = [f"-j{threads}"] if words[0] in WITH_THREADS else []
        done = soupctl(*words, *more)
        after = state()

        assert done.code in {0, 1}, (command, done.message)
        changes = {name: after.get(name) for name in sorted(before.keys() | after.keys())}
        found[command] = {name: each for name, each in changes.items() if each != before.get(name)}
        out = done.out.replace(str(folder).encode(), b"HERE")
        found[command] |= {"standard output": sha256(out)} if out else {}
        found[command] |= {"exit code": done.code} if done.code else {}
        before = after
    path = GOLDEN / f"{story}.json"
    if os.environ.get("GOLDEN") == "rewrite-digests" and threads == 1:
        path.write_text(json.dumps(found, indent=1) + "\n")

    assert found == json.loads(path.read_text())

"""What ingredients share is read once: the same file under several names, or equal content."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from keeping import sum_of
from making import contents, files, save, save_raw

from soupctl import verbs
from soupctl.checkpoints.checkpoint import Checkpoint
from soupctl.checkpoints.hashing import checkpoint_digest
from soupctl.checkpoints.open import find_input, open_input
from soupctl.errors import OutputError
from soupctl.merge.shared_content import as_read
from soupctl.storage import regular

UNET, VAE = 30_000, 200_000
"""Elements of tensors."""
NAMES = ("cats", "dogs", "owls")
FILE = "diffusion_pytorch_model.safetensors"


def random(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, count).astype(np.float16)


def save_vae(path: Path) -> None:
    codes = random(1, VAE).view(np.uint16)
    save(path, **{"a.weight": random(0, VAE), "b.weight": random(0, 3), "n": codes})


def copied(own: Path, first: Path) -> None:
    shutil.copyfile(first, own)


def linked(own: Path, first: Path) -> None:
    os.link(first, own)


def to_a_blob(own: Path, first: Path) -> None:
    blob = first.parents[2] / "blobs" / ("0" * 64)
    if not blob.exists():
        blob.parent.mkdir()
        first.rename(blob)
        first.symlink_to(os.path.relpath(blob, first.parent))
    own.symlink_to(os.path.relpath(blob, own.parent))


def save_pipelines(folder: Path, share: Callable[[Path, Path], None]) -> None:
    """Three pipelines with U-Nets of their own, and one VAE."""
    first = folder / NAMES[0] / "vae" / FILE
    for seed, name in enumerate(NAMES):
        save(folder / name / "unet" / FILE, **{"conv_in.weight": random(seed, UNET)})
        own = folder / name / "vae" / FILE
        own.parent.mkdir(parents=True)
        save_vae(own) if own == first else share(own, first)
        index = '{"unet": ["diffusers", "UNet2DModel"], "vae": ["diffusers", "AutoencoderKL"]}'
        (folder / name / "model_index.json").write_text(index)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The bytes of each read of tensor data."""
    sizes: list[int] = []
    preadv = os.preadv

    def counting(fd: int, buffers: list[memoryview], offset: int) -> int:
        size = preadv(fd, buffers, offset)
        sizes.append(size)
        return size

    monkeypatch.setattr(regular.os, "preadv", counting)
    return sizes


def mix(*, keep_sum: bool = False) -> verbs.Preview:
    weighted = [verbs.Ingredient(name, n) for n, name in enumerate(NAMES, 1)]
    request = verbs.Request(weighted, "soup", keep_sum=keep_sum)
    with verbs.open_job(request) as job:
        preview = verbs.preview(job)
        verbs.carry_out(job, execution=verbs.ExecutionOptions(2))
    return preview


DISTINCT = 3 * 2 * UNET + 2 * 2 * VAE + 2 * 3


@pytest.mark.parametrize("share", [linked, to_a_blob])
def test_a_file_under_several_names_is_read_once(tmp_path, monkeypatch, read, share):
    for folder, how in (("apart", copied), ("shared", share)):
        save_pipelines(tmp_path / folder, how)
        monkeypatch.chdir(tmp_path / folder)
        read.clear()
        told = mix().read
    assert sum(read) == told == DISTINCT
    assert files(tmp_path / "shared/soup") == files(tmp_path / "apart/soup")


def test_copies_are_read_each_since_nothing_says_that_they_are_equal(tmp_path, monkeypatch, read):
    save_pipelines(tmp_path, copied)
    monkeypatch.chdir(tmp_path)
    told = mix().read
    assert sum(read) == told == 3 * (2 * UNET + 2 * 2 * VAE + 2 * 3)


def test_a_kept_sum_of_a_shared_file_is_that_of_copies(tmp_path, monkeypatch, read):
    for folder, how in (("apart", copied), ("shared", linked)):
        save_pipelines(tmp_path / folder, how)
        monkeypatch.chdir(tmp_path / folder)
        read.clear()
        told = mix(keep_sum=True).read
    assert sum(read) <= told
    kept, apart = (files(sum_of(tmp_path / name / "soup")) for name in ("shared", "apart"))
    assert kept == apart


def opened(*paths: Path) -> list[Checkpoint]:
    return [open_input(find_input(path).components[0]) for path in paths]


def test_copies_are_equal_once_their_digests_are_known(tmp_path):
    one, two, other = tmp_path / "one.st", tmp_path / "two.st", tmp_path / "other.st"
    save(one, x=random(0, 5))
    save_raw(two, contents(one), pad=64)
    save(other, x=random(1, 5))
    sources = opened(one, two, other)
    assert as_read(sources) == sources
    for source in sources:
        checkpoint_digest(source)
    assert as_read(sources) == [sources[0], sources[0], sources[2]]


def test_a_file_that_was_written_to_between_openings_is_read_again(tmp_path):
    save(tmp_path / "one.st", x=random(0, 5))
    os.link(tmp_path / "one.st", tmp_path / "two.st")
    (before,) = opened(tmp_path / "one.st")
    os.utime(tmp_path / "one.st", ns=(1, 1))
    (after,) = opened(tmp_path / "two.st")
    assert as_read([before, after]) == [before, after]


def test_a_shared_file_that_changes_is_refused_under_each_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "one.st", x=random(0, 5))
    os.symlink("one.st", "two.st")
    with verbs.open_job(verbs.Request(["one.st", "two.st"], "soup.st")) as job:
        os.unlink("two.st")
        save(tmp_path / "two.st", x=random(1, 5))
        with pytest.raises(OutputError, match=r"two\.st: changed while it was read"):
            verbs.carry_out(job)
    assert not Path("soup.st").exists()

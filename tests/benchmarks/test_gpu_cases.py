"""What a GPU must show is not made up where there is none."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

import gpu  # noqa: E402
import run  # noqa: E402

KERNEL = {
    "name": "average 2 bfloat16",
    "bytes_a_second": 2e12,
    "of_a_copy": 0.5,
    "met": False,
    "rivals": {"plain": 3.25},
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_measured_and_nothing_written(tmp_path, capsys):
    result = tmp_path / "result.json"

    assert 1 == run.main(["gpu", "-o", str(result)])
    assert "refused, nothing is reported: no GPU was found\n" == capsys.readouterr().err
    assert not result.exists()


def test_a_missed_target_is_called_so():
    kernel, file = gpu.lines_of([KERNEL], [{"shapes": "unet", "cuda_over_cpu": 1.5}])

    assert "2000 GB/s, 0.50 of a copy (at least 0.9: MISSED); plain 3.25 x" in kernel
    assert "file to file, unet   cuda / cpu 1.50" == file


def test_the_plain_ways_compute_the_mean():
    rows = [torch.arange(6.0) + row for row in range(3)]

    assert [1, 2, 3, 4, 5, 6] == gpu.plain_mean(rows).tolist()
    assert gpu.plain_mean(rows).equal(gpu.foreach_mean(rows)[0])


def test_updates_may_be_measured_as_often_as_one_likes():
    """Four ones and the small number are more than a float64 holds; two are not."""
    row, soup = torch.ones(1), torch.ones(1)
    kept = gpu.resident.KeptSum([soup])
    kept.add_([torch.tensor([2.0**-51])])
    kept.add_([row], soup=[soup])
    work = gpu.kept_update(kept, row, soup)
    for _ in range(10):
        work()

    assert 2 == kept.total
    assert [[1 + 2.0**-51]] == kept.planes[0].tolist()

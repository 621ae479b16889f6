"""The replications of the papers: what they draw and measure, and that they can be gone on with."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from replication import (  # noqa: E402
    bank_pictures,
    banks,
    commands,
    contrasts,
    dmp,
    judging,
    mixtures,
    paired,
    processes,
    report,
    soup,
    summaries,
    tables,
    verdicts,
)
from replication import work as work_folder  # noqa: E402
from replication.settings import SETTINGS, setting_of  # noqa: E402
from replication.shapes import CAPTIONS, STYLES, Pictures, caption_text, drawn, shapes  # noqa: E402
from replication.work import Work  # noqa: E402

from soupctl.training.bank_options import PatchOptions  # noqa: E402
from soupctl.training.config_file import read_config  # noqa: E402
from soupctl.training.options import Options  # noqa: E402


def test_a_picture_shows_its_caption():
    random = np.random.default_rng(1)
    strongest = {0: {0}, 1: {1}, 2: {2}, 3: {0, 1}}
    for label, (shape, colour, texture, place) in enumerate(CAPTIONS):
        image = drawn(label, 0, random).astype(int)
        ink = image.max(axis=2) > 64
        inked = image[ink].mean(axis=0)
        columns = np.flatnonzero(ink.any(axis=0))
        rows = ink.sum(axis=1)

        assert {0: 25, 1: 9, 2: 16}[shape] == ink.sum()
        assert (0, 4) == (columns.min() - 3 * place, columns.max() - 3 * place)
        assert int(inked.argmax()) in strongest[colour]
        assert (colour == 3) == bool(inked[1] > 0.75 * inked.max() and inked[0] > inked[2] * 2)
        brightness = image.max(axis=2)[np.flatnonzero(rows)[:2]]
        first, second = (row[row > 64].mean() for row in brightness)
        assert bool(texture) == bool(second < 0.6 * first)


def test_shapes_have_all_captions_and_styles_equally_often_and_so_many_wrong_captions():
    count = len(CAPTIONS) * len(STYLES)

    found = shapes(count, np.random.default_rng(2))
    wrong = shapes(count, np.random.default_rng(2), wrong=0.25)

    pairs = set(zip(found.labels.tolist(), found.styles.tolist(), strict=True))
    assert count == len(pairs)
    assert np.array_equal(found.images, wrong.images)
    assert 0.15 < (found.labels != wrong.labels).mean() < 0.35
    assert "a striped green ring on the right" in {caption_text(n) for n in range(len(CAPTIONS))}


def test_the_frechet_distance_of_normal_features_is_that_of_their_moments():
    features = np.random.default_rng(3).normal(size=(500, 4))
    shift = np.array([1.0, 0, 2.0, 0])

    assert pytest.approx(0, abs=1e-6) == judging.frechet(features, features)
    assert pytest.approx(5) == judging.frechet(features, features + shift)
    spread = np.trace(np.cov(features.T))
    assert pytest.approx(spread) == judging.frechet(features, 2 * features - features.mean(0))


def test_the_geometric_mean_of_two_normal_densities_lies_between_them():
    random = np.random.default_rng(4)

    points = mixtures.geometric(mixtures.MODES["equal widths"], 20_000, random, 1)

    # both have the width 0.2, and means of -0.35 and 0.35
    assert pytest.approx(0, abs=0.01) == points.mean()
    assert pytest.approx(0.2, abs=0.01) == points.std()
    assert mixtures.energy(points[:500], points[:500]) == pytest.approx(0, abs=1e-12)
    assert mixtures.energy(points[:500], points[:500] + 0.5) > 0.2


def test_points_are_images_of_one_pixel_and_back():
    points = np.array([[-1.0, 0.5], [0.0, 1.0]])

    images = mixtures.as_pictures(points).images

    assert (2, 1, 1, 3) == images.shape
    assert np.abs(points - mixtures.as_points(images, 2)).max() < 1 / 127


def test_losses_are_those_of_all_images_by_quarter_and_by_group():
    images = np.zeros((3, 8, 8, 1), np.uint8)
    pictures = Pictures(images, np.array([0, 1, 2]), np.array([0, 1, 1]))
    asked = judging.probe(pictures, 2, 5)

    def predict(noisy, times, labels):
        wrong = labels[:, None, None, None] + (times >= 750)[:, None, None, None]
        return asked.noise + wrong

    found = judging.losses(predict, asked, pictures.styles)

    # the errors of the images are 0, 1 and 2, and in the last quarter 1 more
    assert [5 / 3, 5 / 3, 5 / 3, 14 / 3] == pytest.approx(found["quarters"])
    assert [1 / 4, (3 + 4 + 12 + 9) / 8] == pytest.approx(found["groups"])


def test_an_ensemble_predicts_the_mean():
    models = [lambda noisy, timestep, class_labels, n=n: _Output(noisy + n) for n in (1, 4)]

    found = judging.ensemble(models)(torch.zeros(2), None, None)

    assert [2.5, 2.5] == found.tolist()


class _Output:
    def __init__(self, sample):
        self.sample = sample


def test_a_figure_has_its_interval_and_the_number_of_seeds():
    assert "2.00 (-0.48 to 4.48; n=3)" == summaries.figure([1.0, 2.0, 3.0])
    assert "+2.00" == summaries.figure([2.0], sign=True)


def test_what_is_known_is_not_computed_again_wherever_the_folder_is(tmp_path):
    asked = []

    def figure(place):
        work = Work(place)
        model = work.made("model", {"seed": 1}, lambda folder: asked.append("model"))
        return work.figure("loss", {"of": model / "run"}, lambda: asked.append("loss") or 7)

    assert 7 == figure(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    assert 7 == figure(tmp_path / "two")
    assert ["model", "loss"] == asked


def test_only_what_lies_between_the_marks_of_a_page_is_replaced():
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"

    found = report.with_results(page, ["new", ""])

    assert f"before\n{report.BEGIN}\n\nnew\n{report.END}\nafter\n" == found
    with pytest.raises(ValueError, match="has no"):
        report.with_results("nothing", [])


def test_the_study_of_soups_is_made_and_gone_on_with(tmp_path, monkeypatch, capsys):
    result = tmp_path / "soup.json"
    monkeypatch.setitem(soup.REGIMES, "style-4", replace(soup.REGIMES["style-4"], shards=2))
    parts = ("style-4", "leave one out")
    words = ["--setting", "smoke", "--seeds", "1", "--folder", str(tmp_path / "work")]
    words += ["--parts", *parts, "-o", str(result)]

    assert 0 == soup.main(words)
    first = json.loads(result.read_text())

    def refuse(words, _log):
        raise AssertionError(f"was made again: {words}")

    monkeypatch.setattr(commands, "run", refuse)
    assert 0 == soup.main(words)

    found = json.loads(result.read_text())
    assert first.pop("cost")["cpu_minutes"] > 0
    assert first == {name: each for name, each in found.items() if name != "cost"}
    (seed,) = found["seeds"]
    removed = [seed["leave one out"][f"without {n}"] for n in (1, 2)]
    assert all(each["equal"] for each in removed)
    arms = seed["style-4"]
    assert {"base", "uniform soup", "greedy soup", "specialist 2"} <= arms.keys()
    assert all(each["loss"] > 0 for each in arms.values())
    assert str(tmp_path) not in result.read_text()
    lines = "\n".join(tables.soup(found))
    assert all(f"| {name} |" in lines for name in arms)
    assert "is the direct average of the others, bit for bit" in lines
    assert "style-4" in capsys.readouterr().out
    words = [str(result), "--folder", str(tmp_path / "work"), "--images", str(tmp_path / "images")]
    assert 0 == report.main(words)
    drawn = {each.name for each in (tmp_path / "images").iterdir()}
    assert {"replication-soup-arms.png", "replication-left-out.png"} <= drawn


def test_a_claim_holds_if_its_interval_lies_on_its_side():
    assert "yes" == verdicts.verdict([-1.0, -1.2, -0.9], holds_below=True)
    assert "no, the opposite" == verdicts.verdict([-1.0, -1.2, -0.9], holds_below=False)
    assert "cannot be told" == verdicts.verdict([-1.0, 1.2, -0.9], holds_below=True)
    assert "one seed" == verdicts.verdict([-1.0], holds_below=True)


def test_every_claim_has_a_difference_in_a_part_of_the_study():
    regimes = dict.fromkeys(soup.REGIMES)
    found = list(verdicts.claims_of({"regimes": regimes}))

    assert 40 < len(found) == len({each.say for each in found})
    assert {part for each in found for part in each.parts} <= set(soup.PARTS)


def test_a_setting_comes_back_from_its_result():
    for each in SETTINGS.values():
        assert each == setting_of(json.loads(json.dumps(asdict(each))))


def test_a_command_that_fails_says_what_soupctl_said(tmp_path):
    log = tmp_path / "log.txt"

    with pytest.raises(commands.CommandError, match=r"(?s)avg nowhere .*ended with 3.*nowhere"):
        commands.run(["avg", "nowhere", "-o", tmp_path / "soup"], log)

    assert "soupctl: " in log.read_text()


def test_options_are_written_as_they_are_read(tmp_path):
    given = {"lr": 1e-4, "ema": False, "gate_from": 'a "b" \\ c', "steps": 3}
    config = tmp_path / "options.toml"

    config.write_text(commands.toml(given))

    assert given == read_config(config, [Options, PatchOptions])


def test_tasks_of_one_group_run_one_by_one_while_others_wait(tmp_path):
    work = Work(tmp_path)
    tasks = [processes.StudyTask(n, n // 2, lambda n=n: n * n) for n in range(4)]

    found = dict(processes.results_of(tasks, work, 2))

    assert {0: 0, 1: 1, 2: 4, 3: 9} == found
    assert 2 == processes.next_of(tasks, [tasks[0]]).name
    assert 3 == processes.next_of(tasks[1:], [tasks[0], tasks[2]]).name
    assert 4 == len((tmp_path / work_folder.COSTS).read_text().splitlines())


def test_a_task_that_fails_is_named(tmp_path):
    task = processes.StudyTask("it", 0, lambda: 1 / 0)

    with pytest.raises(RuntimeError, match="it failed, with exit code 1"):
        list(processes.results_of([task], Work(tmp_path), 1))


def test_the_study_of_banks_is_made_and_shown(tmp_path, monkeypatch):
    arms = (banks.FULL, banks.PROMPTS, banks.FIXED_GATE, banks.DMP)
    monkeypatch.setitem(dmp.CASES, "many", replace(dmp.CASES["many"], arms=arms))
    monkeypatch.setattr(bank_pictures, "COLOURS", dict.fromkeys(arms, "black"))
    words = ["--setting", "smoke", "--seeds", "1", "--folder", str(tmp_path / "work")]

    result = tmp_path / "dmp.json"
    assert 0 == dmp.main([*words, "--parts", "many", "-o", str(result)])

    found = json.loads(result.read_text())
    assert 1 == found["complete_seeds"]
    case = found["seeds"][0]["many"]
    assert ["base", *arms] == list(case["arms"])
    assert [0, 1, 2] == [each["step"] for each in case["curve"]]
    assert {"finetune", "patch-dmp"} == {run["verb"] for run in found["runs"]}
    assert {banks.PROMPTS, banks.FIXED_GATE, banks.DMP} == case["gates"].keys()
    assert 10 == len(case["arms"][banks.DMP]["tenths"])
    lines = "\n".join(tables.dmp(found))
    assert "| DMP | 0.001 |" in lines
    assert "| many more shapes | " in lines
    names = ("gain", "arms", "timesteps", "bases")
    for name in names:
        bank_pictures.pictures_of(found, None)[f"replication-dmp-{name}.png"]()


def test_a_gain_is_of_the_gate_only_if_it_beats_every_control_in_all_seeds():
    def rows(*losses):
        arms = ("base", banks.PROMPTS, banks.FIXED_GATE, banks.FULL, banks.DMP)
        return [
            {"arms": {arm: {"loss": loss} for arm, loss in zip(arms, seed, strict=True)}}
            for seed in losses
        ]

    def found(*losses):
        return dict(contrasts.contrasts({"seeds": [{"digits": row} for row in rows(*losses)]}))

    (gain,) = found((1, 0.99, 0.99, 0.9, 0.98), (2, 1.98, 1.98, 1.8, 1.96)).values()
    (none,) = found((1, 0.99, 0.99, 0.9, 0.99), (2, 1.98, 1.98, 1.8, 1.97)).values()

    assert [-2, -1, -1, 8] == pytest.approx([each.mean for each in gain.values()])
    assert contrasts.survives(gain)
    assert not contrasts.survives(none)


def test_distances_are_compared_seed_by_seed():
    arms = {"one": {"distance": 3.0}, "other": {"distance": 5.0, "guided": {"distance": 1.0}}}
    rows = [{"arms": arms}, {"arms": {**arms, "one": {"distance": 4.0}}}]

    assert (-2.0, -1.0) == contrasts.distance_contrast(rows, "one", "other").differences
    arms["one"]["guided"] = {"distance": 2.0}
    guided = contrasts.distance_contrast(rows[:1], "one", "other", guided=True)
    assert (1.0,) == guided.differences


def test_the_smallest_gain_that_is_seen_is_that_of_the_t_test():
    found = contrasts.Contrast((-0.1, 0.1, 0.0))

    # (4.303 + 1.061) standard errors of 0.1 / sqrt(3)
    assert 0.3097 == pytest.approx(found.smallest_seen, abs=1e-4)
    assert found.smallest_seen > found.half
    assert contrasts.Contrast((1.0,)).smallest_seen is None


def test_errors_are_compared_triple_by_triple():
    random = np.random.default_rng(8)
    base = random.random((6, paired.TENTHS, 2)) + 1
    arm = base * 0.99
    arm[:, 3] -= 0.2

    found = paired.compared(arm, {"base": base, "itself": arm}, base)

    assert found["loss"] == pytest.approx(arm.mean())
    assert found["tenths"][3] == pytest.approx(0.99 * base[:, 3].mean() - 0.2)
    assert 0 == found["error_to"]["itself"]
    by_image = (arm - base).mean(axis=(1, 2))
    expected = 100 * by_image.std(ddof=1) / np.sqrt(6) / base.mean()
    assert expected == pytest.approx(found["error_to"]["base"])


def test_the_triples_of_an_image_are_spread_over_all_tenths_of_the_timesteps():
    pictures = Pictures(np.zeros((3, 8, 8, 1), np.uint8), np.arange(3), np.zeros(3, int))

    asked, again = (paired.triples(pictures, 2, 5) for _ in range(2))

    assert torch.equal(asked.noise, again.noise)
    assert [0, 1, 2] == asked.labels[:: 2 * paired.TENTHS].tolist()
    tenths = (asked.timesteps // 100).reshape(3, paired.TENTHS, 2)
    assert torch.equal(tenths, torch.arange(10)[None, :, None].expand(3, 10, 2))


def test_every_arm_of_banks_has_options_that_exist():
    from soupctl.training.bank_options import PATCH_DMP  # noqa: PLC0415
    from soupctl.training.options import FINETUNE  # noqa: PLC0415

    for arm in banks.ARMS.values():
        (FINETUNE if arm.whole else PATCH_DMP).built({**banks.DECAYED, **arm.options, "steps": 1})

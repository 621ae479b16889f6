"""A report is one page that tells what ledger, proof and journals say, and that runs nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from making import files, save
from processes import PATIENCE
from safetensors.numpy import load_file
from trained import save_shard, save_trained

from soupctl import verbs
from soupctl.choices import Level, MergeMethod
from soupctl.errors import InputError, LedgerError, OutputError, UsageError
from soupctl.scoring.journal import open_journal
from soupctl.verbs import ReportRequest, Request

pytest.importorskip("matplotlib")
pytest.importorskip("diffusers")

HOSTILE = "<script>alert('1')</script>&\"$x$.st"
VOID = {"meta", "link", "img", "br"}
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
MEASURE = """<script>
document.title = [document.documentElement.scrollWidth, innerWidth].join("/");
</script>"""


class Page(HTMLParser):
    """The elements of a page; an element that is not closed, or closed twice, is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert tag == self.open.pop()

    def handle_data(self, data):
        self.texts.append(data)

    def values(self, name):
        return [attributes[name] for _, attributes in self.elements if name in attributes]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name in ("a.st", "b.st", HOSTILE.replace("/", "_")):
        arrays = {f"blocks.{n}.w": random.normal(0, 1, (3, 4)).astype(np.float32) for n in range(3)}
        save(Path(name), **arrays)


@pytest.fixture
def soup() -> str:
    """A soup whose ingredients are beside it."""
    verbs.average(Request(ingredients=["a.st", verbs.Ingredient("b.st", 3)], output="soup.st"))
    return "soup.st"


def report(*, force=False, output="page.html", **options) -> Page:
    verbs.report(ReportRequest(**{"soup": "soup.st", **options}), Path(output), force=force)
    return Page(Path(output).read_text())


def record_scores(path, command="greedy", names=("a.st", "b.st"), scores=((("1", "0"), 0.5),)):
    facts = {
        "command": command,
        "scorer": "x",
        "options": {"minimize": False},
        "ingredients": [{"name": name} for name in names],
    }
    with open_journal(Path(path), facts, resume=False, replace=False) as journal:
        for weights, score in scores:
            journal.record(str(list(weights)).replace("'", '"'), score)


def vector(path):
    return np.concatenate([each.ravel() for _, each in sorted(load_file(path).items())]).astype(
        np.float64
    )


def test_figures_are_those_of_numpy_and_contributions_add_up_to_one(soup):
    (found,) = verbs.report(ReportRequest(soup), Path("page.html")).components

    whole = vector(soup)
    names = [each.entry.name for each in found.ingredients]
    assert {"a.st", "b.st"} == set(names)
    for each in found.ingredients:
        own = vector(each.entry.name)
        assert np.linalg.norm(own) == pytest.approx(each.measured.norm)
        expected = np.linalg.norm(own - whole) / np.linalg.norm(whole)
        assert expected == pytest.approx(each.measured.distance)
        expected = float(each.share) * own @ whole / (whole @ whole)
        assert expected == pytest.approx(each.measured.contribution)
    assert sum(each.measured.contribution for each in found.ingredients) == pytest.approx(1, 1e-6)
    assert np.linalg.norm(whole) == pytest.approx(found.norm)
    assert Level.REBUILD is found.verified.level


def test_contributions_follow_the_weights_by_block():
    blocks = verbs.BlockWeights((("blocks.0.*", (1, 0)),), (1, 1))
    verbs.average(Request(ingredients=["a.st", "b.st"], output="soup.st", blocks=blocks))

    (found,) = verbs.report(ReportRequest("soup.st"), Path("page.html")).components

    by_name = {each.entry.name: dict(each.measured.blocks) for each in found.ingredients}
    assert 1.0 == pytest.approx(by_name["a.st"]["blocks.0"])
    assert 0.0 == by_name["b.st"]["blocks.0"]
    assert 1.0 == pytest.approx(by_name["a.st"]["blocks.1"] + by_name["b.st"]["blocks.1"], 1e-6)
    assert "Weights by block" in Page(Path("page.html").read_text()).texts


def test_a_page_is_well_formed_and_loads_and_runs_nothing(soup):
    record_scores("soup.st.greedy.jsonl")
    record_scores("soup.st.rank.jsonl", "rank", scores=((("1", "1"), 1), (("0", "1"), 2)))
    Path("grid.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")

    page = report(samples=(Path("grid.png"),))

    assert [] == page.open
    assert {"script", "iframe", "object", "form"}.isdisjoint(tag for tag, _ in page.elements)
    assert not any(name.startswith("on") for _, names in page.elements for name in names)
    for address in (*page.values("src"), *page.values("href"), *page.values("xlink:href")):
        assert address.startswith(("data:", "#")), address
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert "default-src 'none'" in page.values("content")[0]
    text = Path("page.html").read_text()
    assert {"http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg"} == set(
        re.findall(r"https?://[^\"' ]*", text)
    )
    titles = ["Proof", "Ingredients", "Ledger", "Scores of greedy", "Scores of rank", "Samples"]
    assert titles == [each for each in page.texts if each in titles]
    assert "data:image/png;base64,iVBORw0KGgpyZXN0" in page.values("src")


def test_names_from_files_are_text_and_never_markup():
    hostile = HOSTILE.replace("/", "_")
    verbs.average(Request(ingredients=[hostile, "a.st"], output="soup.st"))
    record_scores("soup.st.greedy.jsonl", names=("\x1b[2J<b>", "</h2>"))

    page = report()

    assert any(hostile in each for each in page.texts)
    assert any(r"\x1b[2J<b>" in each for each in page.texts)
    assert "b" not in {tag for tag, _ in page.elements}
    assert [] == page.open


def test_equal_soups_have_equal_pages(soup):
    report()
    report(output="again.html")

    assert Path("page.html").read_bytes() == Path("again.html").read_bytes()


@pytest.mark.parametrize("method", ["ties", "slerp", "model-stock"])
def test_models_of_a_method_are_measured_and_have_no_shares(method):
    others = {"base": next(Path().glob("<*"))} if method != "slerp" else {}
    if method == "ties":
        others["densities"] = (Fraction(1, 5),)
    verbs.merge(verbs.MergeRequest(MergeMethod(method), ["a.st", "b.st"], "soup.st", **others))

    (found,) = verbs.report(ReportRequest("soup.st"), Path("page.html")).components

    assert len(found.ingredients) == (2 if method == "slerp" else 3)
    for each in found.ingredients:
        assert not each.is_added
        assert (each.share, each.measured.contribution) == (None, None)
        own, whole = vector(each.entry.name), vector("soup.st")
        assert np.linalg.norm(own - whole) / np.linalg.norm(whole) == pytest.approx(
            each.measured.distance
        )
    words = " ".join(Page(Path("page.html").read_text()).texts)
    assert f"3 ingredients, {method}" in words or f"2 ingredients, {method}" in words
    assert "weight 1" in words
    assert ("Contributions" in words, "Distances" in words, "scale" in words) == (
        False,
        True,
        False,
    )


def test_what_cannot_be_measured_is_said(soup):
    Path("a.st").unlink()
    shutil.copy(next(iter(Path().glob("<*"))), "b.st")

    page = report()

    said = [each for each in page.texts if each.startswith("not measured")]
    changed = "not measured: the file that was found has other content"
    assert [changed, "not measured: is not found"] == sorted(said, reverse=True)
    # a page is given to others, and names no folder of the user's
    assert str(Path.cwd()) not in Path("page.html").read_text()
    assert "FAILED" not in page.texts


def test_a_tampered_soup_is_told_first(soup):
    raw = bytearray(Path(soup).read_bytes())
    raw[-1] ^= 1
    Path(soup).write_bytes(raw)

    assert "FAILED" in report().texts


def test_the_tree_has_soups_in_soups_and_training():
    base = save(Path("base.st"), w=np.zeros(20, np.float16))
    shard = save_shard("data/cats", b"one", b"two")
    trained = [save_trained(f"run{n}", shard, n, base=str(base)) for n in (1, 2)]
    verbs.average(Request(ingredients=trained, output="inner.st"))
    verbs.average(Request(ingredients=["inner.st", trained[0]], output="soup.st"))

    page = report()

    assert sum("trained for 4 steps on cats (2 images)" in each for each in page.texts) >= 3
    assert "inner.st" in " ".join(page.texts)


def test_scores_are_shown_also_while_the_last_is_being_written(soup):
    scores = ((("1", "0"), 0.25), (("0", "1"), 0.75))
    record_scores("elsewhere.jsonl", "search", scores=scores)
    with Path("elsewhere.jsonl").open("ab") as file:
        file.write(b'{"digest":"bl')

    page = report(journals=(Path("elsewhere.jsonl"),))

    assert "Scores of search" in page.texts
    assert "Best candidate: 0.75" in page.texts
    assert any("2 scores; higher is better" in each for each in page.texts)


def test_a_page_names_no_folder_of_a_journal_s_ingredients(soup):
    names = tuple(str(Path.cwd() / name) for name in ("a.st", "b.st"))
    record_scores("soup.st.greedy.jsonl", names=names)

    assert "a.st" in " ".join(report().texts)
    assert str(Path.cwd()) not in Path("page.html").read_text()


@pytest.mark.parametrize(
    ("weights", "score"),
    [(("1",), 0.5), (("1", "1", "0"), 0.5), (("1", "0"), "0.5")],
)
@pytest.mark.parametrize("command", ["rank", "greedy"])
def test_a_journal_of_other_weights_or_no_scores_is_refused(soup, command, weights, score):
    record_scores(f"soup.st.{command}.jsonl", command, scores=((weights, score),))

    with pytest.raises(LedgerError, match="is no journal of scores"):
        report()


def test_a_changed_journal_is_refused(soup):
    record_scores("soup.st.greedy.jsonl")
    text = Path("soup.st.greedy.jsonl").read_text().replace("0.5", "0.9")
    Path("soup.st.greedy.jsonl").write_text(text)

    with pytest.raises(LedgerError, match="line 2 was changed") as refused:
        report()
    # to begin again is no way out of a report
    assert refused.value.issues[0].advice is None

    assert not Path("page.html").exists()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"soup": "a.st"}, LedgerError, "has no ledger"),
        ({"soup": "-"}, UsageError, "a soup is read twice"),
        ({"soup": "nowhere.st"}, InputError, "cannot be read"),
        ({"samples": (Path("a.st"),)}, InputError, "is no PNG, JPEG or WebP picture"),
        ({"samples": (Path("sound.wav"),)}, InputError, "is no PNG, JPEG or WebP picture"),
        ({"journals": (Path("nowhere"),)}, InputError, "nowhere"),
        ({"output": "soup.st", "force": True}, OutputError, "is also an input"),
        ({"output": "b.st"}, OutputError, "exists"),
        ({"output": "b.st", "force": True}, OutputError, "b.st: is no page"),
        ({"output": "nowhere/page.html"}, OutputError, "nowhere"),
    ],
)
def test_what_cannot_be_reported_is_refused_and_nothing_is_written(soup, options, error, said):
    Path("sound.wav").write_bytes(b"RIFF\x04\0\0\0WAVE")
    before = files(Path())

    with pytest.raises(error) as raised:
        report(**options)

    assert said in str(raised.value)
    assert before == files(Path())


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine")
@pytest.mark.parametrize("width", [400, 1280])
def test_a_browser_shows_the_page_without_errors_and_without_scrolling_sideways(soup, width):
    record_scores("soup.st.greedy.jsonl", names=("a" * 300, "b.st"))
    report()
    text = Path("page.html").read_text()
    measured = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    Path("measured.html").write_text(measured.replace("</body>", f"{MEASURE}</body>"))

    def run(name, *arguments):
        command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu"]
        command += ["--user-data-dir=profile", "--enable-logging=stderr"]
        command += [f"--window-size={width},2000", *arguments, Path(name).absolute().as_uri()]
        # its socket needs a short path
        short = {**os.environ, "TMPDIR": "/tmp"}
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=PATIENCE, env=short
        )

    shown = run("page.html", "--screenshot=page.png")
    title = re.search(r"<title>(\d+)/(\d+)</title>", run("measured.html", "--dump-dom").stdout)

    assert "CONSOLE" not in shown.stderr
    assert Path("page.png").stat().st_size > 10_000
    assert int(title[1]) <= int(title[2])

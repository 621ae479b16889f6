"""The parts of a report: proof, ingredients, weights by block, ledger and journals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from html import escape
from itertools import accumulate

from ..choices import Proof
from ..images.report_charts import bar_chart, score_chart, share_chart
from ..ledger.ledger import IngredientEntry, Ledger
from ..ledger.names import SHORT_DIGEST, printable, unique_names
from ..ledger.training_record import TrainingRecord
from ..scoring.journal import RecordedScores
from .facts import MeasuredIngredient, ReportedComponent, ReportedIngredient

MOST_CHARTED = 30
"""Ingredients, blocks or scores that a chart shows; the tables and lists show all."""
MOST_LISTED = 500
"""Lines of a ledger's tree."""


def text(value: object) -> str:
    """A value as text of an HTML page, also for an attribute in double quotes."""
    plain = printable(str(value))
    return escape("".join(each if each.isprintable() else repr(each)[1:-1] for each in plain))


def component_sections(found: ReportedComponent, *, is_only: bool) -> Iterator[str]:
    """Everything about one component."""
    title = "Proof" if is_only else f"Component {text(found.name)}"
    yield f'<section><h2>{title}</h2><div class="card">'
    yield from _proof(found)
    yield "</div></section>"
    if found.ingredients:
        yield "<section><h2>Ingredients</h2>"
        yield f'<div class="card wide">{"".join(_ingredients(found))}</div>'
        yield "".join(_charts(found))
        yield "</section>"
    yield '<section><h2>Ledger</h2><div class="card">'
    yield from _ledger(found.ledger)
    yield "</div></section>"


def _proof(found: ReportedComponent) -> Iterator[str]:
    proof = found.verified
    verdict = proof.verdict(None)
    yield f'<p><span class="badge {verdict.value.lower()}">{verdict.value}</span> '
    yield f"{proof.level.meaning.capitalize()}.</p>"
    rows = [("Level", proof.level.value), ("Digest", f"<code>{text(found.ledger.root)}</code>")]
    if verdict is not Proof.OK or proof.problem is not None:
        rows.append(("Not proven", text((proof.problem or "").removeprefix(f"{found.label}: "))))
    rows += [("Not proven", text(each)) for each in proof.unproven]
    exact = "Every state was computed from ingredients." if proof.exact else "Approximate."
    rows.append(("Exactness", exact))
    if found.norm is not None:
        rows.append(("Norm", f"{found.norm:.6g}"))
    yield '<dl class="facts">'
    yield "".join(f"<dt>{label}</dt><dd>{value}</dd>" for label, value in rows if value)
    yield "</dl>"


COLUMNS: tuple[tuple[str, Callable[[MeasuredIngredient], float | None], str], ...] = (
    ("Contribution", lambda found: found.contribution, "{:.2%}"),
    ("Norm", lambda found: found.norm, "{:.5g}"),
    ("Distance", lambda found: found.distance, "{:.2%}"),
    ("Cosine", lambda found: found.cosine, "{:.5f}"),
)


def _ingredients(found: ReportedComponent) -> Iterator[str]:
    heads = ("Ingredient", "Weight", "Share", *(name for name, _, _ in COLUMNS))
    yield '<table class="stacked"><thead><tr>'
    yield "".join(f'<th scope="col">{name}</th>' for name in heads)
    yield "</tr></thead><tbody>"
    for each in found.ingredients:
        digest = f"<small><code>{text(_short(each.entry.digest))}</code></small>"
        why = f"<small>not measured: {text(each.why_not)}</small>" if each.why_not else ""
        trained = found.ledger.ancestors.get(each.entry.digest)
        data = _trained(trained.training) if trained and trained.training else ""
        yield f"<tr><td>{text(each.entry.name)}{digest}"
        yield f"{f'<small>{data}</small>' if data else ''}{why}</td>"
        yield _cell("Weight", f"{'scale ' if each.is_added else ''}{_weight(each.entry)}")
        yield _cell("Share", _share(each))
        for name, value_of, form in COLUMNS:
            value = None if each.measured is None else value_of(each.measured)
            yield _cell(name, "" if value is None else form.format(value))
        yield "</tr>"
    yield "</tbody></table>"
    measured = [each.measured for each in found.ingredients if each.measured is not None]
    if measured:
        yield '<p class="note">'
        if any(each.contribution is not None for each in measured):
            yield "Contribution: the part of the soup's squared norm that comes from the weighted "
            yield "ingredient. "
        yield "Distance: the norm of its difference from the soup, relative to the soup's norm.</p>"


def _cell(label: str, value: str) -> str:
    return f'<td data-label="{label}">{text(value) or "&ndash;"}</td>'


def _share(found: ReportedIngredient) -> str:
    """The share of a model in a mean; empty for any other ingredient."""
    return "" if found.share is None or found.is_added else f"{float(found.share):.2%}"


def _weight(entry: IngredientEntry) -> str:
    return f"{entry.weight}{' (others by block)' if entry.blocks else ''}"


def _charts(found: ReportedComponent) -> Iterator[str]:
    models = [each for each in found.ingredients if not each.is_added][:MOST_CHARTED]
    if len(models) < 2:
        return
    yield '<div class="cards below">'
    shares = [(each.entry.name, float(each.share)) for each in models if each.share is not None]
    if shares and not found.rows:
        yield _figure("Shares", bar_chart(shares, "share of the soup", percent=True))
    elif found.rows:
        names = [each.entry.name for each in models]
        places = [n for n, each in enumerate(found.ingredients) if each in models]
        columns = [
            (row.name, [float(row.shares[place]) for place in places])
            for row in found.rows[:MOST_CHARTED]
        ]
        yield _figure("Weights by block", share_chart(names, columns))
    yield from _measured_charts(models)
    yield "</div>"


def _measured_charts(models: Sequence[ReportedIngredient]) -> Iterator[str]:
    measured = [(each.entry.name, each.measured) for each in models if each.measured is not None]
    if not measured:
        return
    if any(each.contribution is not None for _, each in measured):
        parts = [(name, each.contribution or 0.0) for name, each in measured]
        yield _figure("Contributions", bar_chart(parts, "of the soup's squared norm", percent=True))
    norms = [(name, each.distance or 0.0) for name, each in measured]
    yield _figure("Distances", bar_chart(norms, "from the soup", percent=True))
    blocks = [name for name, _ in measured[0][1].blocks][:MOST_CHARTED]
    if len(blocks) > 1:
        columns = [
            (block, [dict(each.blocks).get(block) or 0.0 for _, each in measured])
            for block in blocks
        ]
        chart = share_chart([name for name, _ in measured], columns)
        yield _figure("Contributions by block", chart)


def _figure(title: str, chart: str, note: str = "") -> str:
    caption = f"<figcaption>{note}</figcaption>" if note else ""
    return f'<figure class="card"><h3>{title}</h3>{chart}{caption}</figure>'


def _ledger(ledger: Ledger) -> Iterator[str]:
    if ledger.training is not None:
        yield f"<p>{_trained(ledger.training)}</p>"
        return
    yield '<h3>History</h3><ol class="steps">'
    for state in ledger.states:
        changes = ", ".join(
            f"{'+' if each.weight > 0 else ''}{each.weight} {each.name}" for each in state.changed
        )
        changes = changes or f"{len(ledger.ingredients)} ingredients"
        changes += "" if ledger.method is None else f", {ledger.method.text}"
        exactness = "" if state.exact else " (approximate)"
        yield f"<li><strong>{text(state.operation)}</strong> {text(changes)}{exactness}</li>"
    yield '</ol><h3 class="below">Tree</h3>'
    yield from _tree(ledger)


def _tree(ledger: Ledger) -> Iterator[str]:
    """The ingredients, and those of ingredients that are soups; a shared one is expanded once."""
    shown: set[str] = set()
    lines = 0
    waiting = [(ledger, iter(zip(ledger.ingredients, ledger.shares, strict=True)))]
    yield '<ul class="tree">'
    while waiting:
        holder, entries = waiting[-1]
        found = next(entries, None)
        if found is None or lines >= MOST_LISTED:
            waiting.pop()
            yield "</ul>" if not waiting else "</ul></li>"
            continue
        lines += 1
        entry, share = found
        part = _part(holder, entry, share)
        doubt = " (its sources contradict each other)" if entry.digest in ledger.disputed else ""
        yield f'<li><span class="share">{text(part)}</span> {text(entry.name)}{doubt}'
        below = ledger.ancestors.get(entry.digest)
        if below is None:
            yield "</li>"
        elif below.training is not None:
            yield f' <span class="note">{_trained(below.training)}</span></li>'
        elif entry.digest in shown:
            yield ' <span class="note">shown above</span></li>'
        else:
            shown.add(entry.digest)
            yield "<ul>"
            waiting.append((below, iter(zip(below.ingredients, below.shares, strict=True))))
    if lines >= MOST_LISTED:
        yield f'<p class="note">Only {MOST_LISTED} lines are shown: soupctl log --tree has all.</p>'


def _part(holder: Ledger, entry: IngredientEntry, share: Fraction) -> str:
    """The part of an ingredient in a soup: its share, its scale, or its weight for a method."""
    if holder.method is not None:
        return "base" if entry.digest == holder.base else f"weight {entry.weight}"
    return f"scale {entry.weight}" if holder.adds(entry) else f"{float(share):.2%}"


def _trained(training: TrainingRecord) -> str:
    images = f"{training.samples} images" if training.samples > 1 else "1 image"
    return f"trained for {training.steps} steps on {text(training.data_name)} ({images})"


def journal_section(journal: RecordedScores) -> Iterator[str]:
    """The scores of a command that chose the soup, or ranked its ingredients."""
    if not journal.scores:
        return
    yield f"<section><h2>Scores of {text(journal.command)}</h2>"
    yield '<div class="cards">'
    scores = [score for _, score in journal.scores]
    best = [*accumulate(scores, min if journal.minimize else max)]
    aim = "lower" if journal.minimize else "higher"
    note = f"{len(scores)} scores; {aim} is better. The best is {best[-1]:.6g}."
    if journal.command == "rank":
        yield _ranks(journal, f"{aim.capitalize()} is better; the line is the whole soup.")
    else:
        yield _figure("Course", score_chart(scores, best), note)
        yield from _best(journal)
    yield "</div></section>"


def _ranks(journal: RecordedScores, note: str) -> str:
    (_, whole), *others = journal.scores
    rows = [
        (journal.ingredients[weights.index("0")], score)
        for weights, score in others
        if "0" in weights
    ]
    if not rows:
        return _figure("Without each ingredient", "", f"The soup scores {whole:.6g}.")
    rows.sort(key=lambda row: row[1], reverse=journal.minimize)
    chart = bar_chart(rows[:MOST_CHARTED], "score without this ingredient", start=whole)
    return _figure("Without each ingredient", chart, note)


def _best(journal: RecordedScores) -> Iterator[str]:
    """The ingredients of the best candidate."""
    place = journal.best
    if place is None:
        return
    weights, score = journal.scores[place]
    yield f'<div class="card"><h3>Best candidate: {score:.6g}</h3><ul class="tree">'
    if weights and isinstance(weights[0], list):
        weights = tuple(weights[0])
        yield '<li class="note">The weights of tensors in no block; blocks have others.</li>'
    # a page is given to others, and names no folder of the user's
    for name, weight in zip(unique_names(journal.ingredients), weights, strict=True):
        if weight != "0":
            yield f'<li><span class="share">{text(weight)}</span> {text(name)}</li>'
    yield "</ul></div>"


def _short(digest: str) -> str:
    kind, _, digits = digest.partition(":")
    return f"{kind}:{digits[:SHORT_DIGEST]}"

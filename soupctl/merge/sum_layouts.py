"""The layouts of kept sums of a job, before and after its sources have been read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..engines.contract import Engine
from ..errors import InputError, LimitError, MismatchError
from ..ledger.ledger import LEDGER_KEY, SUM_KEY
from ..workers import ExecutionOptions
from .job import ComponentJob, Job
from .kept_sum.forms import SumForms
from .kept_sum.survey import SumLayout, expect_forms, lay_out_sum


def expected_layouts(job: Job, engine: Engine, execution: ExecutionOptions) -> list[SumLayout]:
    """The expected layout of the sum of each component; empty if no sum is kept."""
    layouts = []
    for each in job.components:
        if each.sum_record is not None:
            with source_errors_first([each]):
                forms = expect_forms(each.sum_plan, each.sum_sources, engine, execution)
            layouts.append(layout_of(each, forms))
    return layouts


def layout_of(component: ComponentJob, forms: SumForms) -> SumLayout:
    """The layout of the sum of a component, which is kept in these forms."""
    assert component.sum_record is not None
    text = component.draft_text
    draft = sum_metadata(component, text, component.sum_record.draft_text(text))
    return lay_out_sum(component.inputs.name, component.sum_plan, forms, draft)


def sum_metadata(component: ComponentJob, ledger_text: str, record_text: str) -> dict[str, str]:
    """The metadata of the file of a component's sum."""
    return {**component.metadata, LEDGER_KEY: ledger_text, SUM_KEY: record_text}


@contextmanager
def source_errors_first(components: Sequence[ComponentJob]) -> Iterator[None]:
    """If a failing source has other content than expected, raise that error instead."""
    try:
        yield
    except (InputError, MismatchError, LimitError):
        for component in components:
            component.require_sources()
        raise

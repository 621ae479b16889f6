"""What was measured of a case, and the record that a result file keeps of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

from cases import Case, Measure, Target
from figures import Ratio, paired_ratio
from measure import Duration, Footprint


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What was measured of one case; times in seconds, in the order of the runs."""

    case: Case
    page_cache: str
    ours: tuple[Duration, ...]
    theirs: tuple[Duration, ...]
    footprints: tuple[Footprint, ...]
    bytes_read: int
    bytes_written: int

    def figure(self, measure: Measure) -> float:
        """The value that a target on `measure` is held against."""
        match measure:
            case Measure.RATIO:
                ratio = self.ratio()
                if ratio is None:
                    raise ValueError(f"{self.case.name} has a target on a ratio, and no opponent")
                return ratio.median
            case Measure.WALL:
                return median(run.wall for run in self.ours)
            case Measure.ANONYMOUS:
                return max(footprint.anonymous_mib for footprint in self.footprints)
            case Measure.FILES:
                return max(footprint.open_files for footprint in self.footprints)

    def ratio(self) -> Ratio | None:
        """The ratio of the pairs, as its name says; None where soupctl ran alone."""
        if self.case.versus is None:
            return None
        ours, theirs = [run.wall for run in self.ours], [run.wall for run in self.theirs]
        if self.case.versus.is_slower_way:
            return paired_ratio(theirs, ours)
        return paired_ratio(ours, theirs)

    def as_json(self) -> dict[str, object]:
        """The record of a result file."""
        ratio = self.ratio()
        versus = self.case.versus
        return {
            "case": self.case.name,
            "shows": self.case.shows,
            "page_cache": self.page_cache,
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "soupctl": _times(self.ours),
            "versus": None if versus is None else {"name": versus.value, **_times(self.theirs)},
            "ratio": None if ratio is None or versus is None else {
                "of": versus.ratio_name, **asdict(ratio)
            },
            "peak_anonymous_mib": round(self.figure(Measure.ANONYMOUS), 1),
            "open_files": self.figure(Measure.FILES),
            "looks": sum(footprint.looks for footprint in self.footprints),
            "targets": [self._judged(target) for target in self.case.targets],
        }  # fmt: skip

    def _judged(self, target: Target) -> dict[str, object]:
        value = self.figure(target.measure)
        return {"met": target.met(value), "verdict": target.verdict(value)}


def _times(runs: Sequence[Duration]) -> dict[str, object]:
    return {
        "median": {
            "wall_s": median(run.wall for run in runs),
            "user_s": median(run.user for run in runs),
            "system_s": median(run.system for run in runs),
        },
        "runs": [[round(value, 4) for value in asdict(run).values()] for run in runs],
    }

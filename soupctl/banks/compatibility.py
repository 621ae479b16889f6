"""Whether a bank fits a base, and whether banks have the same base; checked before loading models.

Rule 1: unknown values are not compared; all differences are reported in one error.
"""

from __future__ import annotations

from dataclasses import replace

from ..errors import Issue, MismatchError
from .config import BankConfig, BaseDescription

OTHER_WEIGHTS = "--allow-base-mismatch permits it, for example on a soup of the base's fine-tunes"


def require_fit(
    config: BankConfig, base: BaseDescription, path: str, *, allow_base_mismatch: bool = False
) -> None:
    """Raise MismatchError, naming the bank at `path`, with all differences of `base` from its own.

    Class, blocks, shapes and timesteps must be equal; the digests of weights and config as well,
    unless `allow_base_mismatch`.
    """
    own = config.base
    pairs = [
        ("class", own.kind, base.kind),
        ("sample size", own.sample_size, base.sample_size),
        ("embedding width", own.embedding_width, base.embedding_width),
        ("number of timesteps", own.num_train_timesteps, base.num_train_timesteps),
        ("prediction", own.prediction_type, base.prediction_type),
    ]
    issues = [
        Issue(f"was trained for {what} {mine}, but the base has {theirs}", path)
        for what, mine, theirs in pairs
        if mine != theirs and mine is not None and theirs is not None
    ]
    if own.kind == base.kind:
        issues += _site_issues(config, base, path)
    if not allow_base_mismatch:
        issues += _digest_issues(own, base, path)
    if issues:
        raise MismatchError.collected(issues)


def require_same_base(
    first: BankConfig, other: BankConfig, path: str, *, allow_base_mismatch: bool = False
) -> None:
    """Raise MismatchError, naming the bank `other` at `path`, if its base is not that of `first`.

    The two may have prompts for different blocks.
    """
    shared = {site.name: site for site in (*other.base.sites, *first.base.sites)}
    base = replace(first.base, sites=tuple(shared.values()))
    require_fit(other, base, path, allow_base_mismatch=allow_base_mismatch)


def _site_issues(config: BankConfig, base: BaseDescription, path: str) -> list[Issue]:
    there = {site.name: site for site in base.sites}
    issues = []
    for site in config.base.sites:
        found = there.get(site.name)
        if found is None:
            issues.append(Issue("the base has no such block", path, site.name))
        elif found.depth != site.depth:
            what = f"is block {site.depth} in the bank, but block {found.depth} in the base"
            issues.append(Issue(what, path, site.name))
        elif found.shape != site.shape:
            what = f"has shape {list(site.shape)} in the bank, but {list(found.shape)} in the base"
            issues.append(Issue(what, path, site.name))
    return issues


def _digest_issues(own: BaseDescription, base: BaseDescription, path: str) -> list[Issue]:
    pairs = (
        ("weights", own.digest, base.digest),
        ("config", own.config_digest, base.config_digest),
    )
    return [
        Issue(f"was trained on a base with different {what}", path, advice=OTHER_WEIGHTS)
        for what, mine, theirs in pairs
        if mine != theirs and mine is not None and theirs is not None
    ]

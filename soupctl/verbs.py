"""The Python interface: one function for each command, paths and values in, values out.

    from fractions import Fraction
    from soupctl import verbs

    request = verbs.Request(
        ingredients=["a.st", verbs.Ingredient("b.st", Fraction(2))], output="soup.st"
    )
    (made,) = verbs.average(request)
    made.ledger.root  # "blake3:..."

Every refusal is a child of `soupctl.errors.SoupError`; nothing is printed, nothing half-written.
Names are imported when they are first used, so that inspecting a checkpoint does not load the
engines; torch is loaded by the functions that train, sample or stack.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

# ruff: noqa: PLC0414, PLE0604

# for type checkers, `as` marks exported names; a test compares them with MODULES
if TYPE_CHECKING:
    from .checkpoints.hashing import FileDigest as FileDigest
    from .checkpoints.hashing import Verdict as Verdict
    from .checkpoints.hashing import check_digests as check_digests
    from .checkpoints.hashing import content_digests as content_digests
    from .checkpoints.hashing import file_sha256 as file_sha256
    from .choices import ConvertQuantization as ConvertQuantization
    from .choices import Level as Level
    from .choices import MergeMethod as MergeMethod
    from .choices import Method as Method
    from .choices import OnInt as OnInt
    from .choices import Preset as Preset
    from .choices import Quantization as Quantization
    from .choices import SearchSampler as SearchSampler
    from .choices import WeightBy as WeightBy
    from .cluster.workers import Workers as Workers
    from .cluster.workers import open_workers as open_workers
    from .convert.conversion import Conversion as Conversion
    from .convert.conversion import open_conversion as open_conversion
    from .convert.preview import ConversionPreview as ConversionPreview
    from .convert.preview import preview_conversion as preview_conversion
    from .convert.request import ConvertRequest as ConvertRequest
    from .convert.training import RecordRequest as RecordRequest
    from .convert.training import open_record as open_record
    from .convert.write import ConvertedComponent as ConvertedComponent
    from .convert.write import convert as convert
    from .convert.write import convert_tensors as convert_tensors
    from .convert.write import require_free_output as require_free_output
    from .demo import make_checkpoints as make_checkpoints
    from .format.dtypes import DType as DType
    from .ledger.data_shard import images_digest as images_digest
    from .merge.answer import Answer as Answer
    from .merge.apply import Application as Application
    from .merge.apply import apply as apply
    from .merge.apply import open_application as open_application
    from .merge.average import Request as Request
    from .merge.average import average as average
    from .merge.average import open_job as open_job
    from .merge.bench import MeasuredSpeed as MeasuredSpeed
    from .merge.bench import measure_speed as measure_speed
    from .merge.blocks.request import BlockWeights as BlockWeights
    from .merge.blocks.request import ClassicBlocks as ClassicBlocks
    from .merge.blocks.request import read_blocks as read_blocks
    from .merge.delta.make import DeltaResult as DeltaResult
    from .merge.delta.make import make_delta as make_delta
    from .merge.delta.make import open_delta_job as open_delta_job
    from .merge.delta.make import subtract_base as subtract_base
    from .merge.delta.passes import DeltaJob as DeltaJob
    from .merge.delta.passes import DeltaRequest as DeltaRequest
    from .merge.delta.preview import DeltaPreview as DeltaPreview
    from .merge.delta.preview import preview_delta as preview_delta
    from .merge.diff.compare import DiffRequest as DiffRequest
    from .merge.diff.compare import compare_checkpoints as compare_checkpoints
    from .merge.diff.differences import CheckpointDifference as CheckpointDifference
    from .merge.diff.differences import TensorDifference as TensorDifference
    from .merge.diff.matrix import DeltaMatrix as DeltaMatrix
    from .merge.diff.matrix import MatrixRequest as MatrixRequest
    from .merge.diff.matrix import compare_deltas as compare_deltas
    from .merge.doctor import Checkup as Checkup
    from .merge.doctor import EngineCheck as EngineCheck
    from .merge.doctor import check_up as check_up
    from .merge.ema.request import EmaRequest as EmaRequest
    from .merge.ema.request import TimeAverage as TimeAverage
    from .merge.ema.request import ema as ema
    from .merge.ema.request import time_average as time_average
    from .merge.extract_lora import ExtractedLayer as ExtractedLayer
    from .merge.extract_lora import ExtractedLora as ExtractedLora
    from .merge.extract_lora import Extraction as Extraction
    from .merge.extract_lora import extract_lora as extract_lora
    from .merge.ingredients import Ingredient as Ingredient
    from .merge.inspect import Inspection as Inspection
    from .merge.inspect import inspect as inspect
    from .merge.job import ComponentResult as ComponentResult
    from .merge.job import Job as Job
    from .merge.leave_one_out import LeaveOneOut as LeaveOneOut
    from .merge.leave_one_out import Variant as Variant
    from .merge.leave_one_out import leave_one_out as leave_one_out
    from .merge.leave_one_out import open_family as open_family
    from .merge.methods.request import MergeRequest as MergeRequest
    from .merge.methods.request import merge as merge
    from .merge.methods.request import open_merge as open_merge
    from .merge.parts.commit import PartedJob as PartedJob
    from .merge.parts.commit import commit as commit
    from .merge.parts.commit import open_parted as open_parted
    from .merge.parts.divide import PartOfPlan as PartOfPlan
    from .merge.parts.divide import parse_part as parse_part
    from .merge.parts.make import PlannedPart as PlannedPart
    from .merge.parts.make import make_part as make_part
    from .merge.parts.make import open_part as open_part
    from .merge.parts.rebuild import verify_on_workers as verify_on_workers
    from .merge.parts.spread import Opening as Opening
    from .merge.parts.spread import make_on_workers as make_on_workers
    from .merge.parts.spread import require_divisible as require_divisible
    from .merge.preview import Preview as Preview
    from .merge.preview import preview as preview
    from .merge.query import ask as ask
    from .merge.query import history as history
    from .merge.query import holds as holds
    from .merge.recipes.export import recipe_of as recipe_of
    from .merge.recipes.export_pipeline import recipe_of_soup as recipe_of_soup
    from .merge.recipes.run import RecipeRun as RecipeRun
    from .merge.recipes.run import close_recipe as close_recipe
    from .merge.recipes.run import open_recipe as open_recipe
    from .merge.recipes.run import open_stage as open_stage
    from .merge.recipes.run import run_recipe as run_recipe
    from .merge.revise import open_revision as open_revision
    from .merge.revise import revise as revise
    from .merge.revision import Addition as Addition
    from .merge.revision import Removal as Removal
    from .merge.revision import Revision as Revision
    from .merge.rounds import Rounds as Rounds
    from .merge.rounds import arrange as arrange
    from .merge.run import carry_out as carry_out
    from .merge.run import carry_out_together as carry_out_together
    from .merge.sample_weights import weighted_by as weighted_by
    from .merge.sweep import ShareRange as ShareRange
    from .merge.sweep import Sweep as Sweep
    from .merge.sweep import SweptSoup as SweptSoup
    from .merge.sweep import open_sweep as open_sweep
    from .merge.sweep import parse_range as parse_range
    from .merge.sweep import sweep as sweep
    from .merge.verify import ProofQuestion as ProofQuestion
    from .merge.verify import Verified as Verified
    from .merge.verify import verify as verify
    from .proof.attest import AttestRequest as AttestRequest
    from .proof.attest import attest as attest
    from .proof.check import CheckedAttestation as CheckedAttestation
    from .proof.check import check_attestation as check_attestation
    from .proof.describe import DescribeRequest as DescribeRequest
    from .proof.describe import describe as describe
    from .proof.many import Share as Share
    from .proof.many import SoupFolder as SoupFolder
    from .proof.many import VerifiedFolder as VerifiedFolder
    from .proof.many import soups_in as soups_in
    from .proof.many import verify_folder as verify_folder
    from .proof.push import PlannedPush as PlannedPush
    from .proof.push import Pushed as Pushed
    from .proof.push import PushRequest as PushRequest
    from .proof.push import plan_push as plan_push
    from .proof.push import push as push
    from .proof.statement import Attestation as Attestation
    from .report.facts import ReportRequest as ReportRequest
    from .report.facts import SoupFacts as SoupFacts
    from .report.publish import report as report
    from .scoring.greedy import Greedy as Greedy
    from .scoring.greedy import GreedyChoice as GreedyChoice
    from .scoring.greedy import greedy as greedy
    from .scoring.greedy import open_greedy as open_greedy
    from .scoring.rank import IngredientEffect as IngredientEffect
    from .scoring.rank import Rank as Rank
    from .scoring.rank import Ranking as Ranking
    from .scoring.rank import rank as rank
    from .scoring.recipe import chosen_recipe as chosen_recipe
    from .scoring.scorer import Scoring as Scoring
    from .scoring.search import FoundWeights as FoundWeights
    from .scoring.search import WeightSearch as WeightSearch
    from .scoring.search import open_search as open_search
    from .scoring.search import search as search
    from .scoring.trials import Scored as Scored
    from .training.commands import finetune as finetune
    from .training.commands import leave_out_bank as leave_out_bank
    from .training.commands import patch_dmp as patch_dmp
    from .training.commands import sample as sample
    from .training.commands import stack as stack
    from .workers import ExecutionOptions as ExecutionOptions

MODULES = {
    ".checkpoints.hashing": "FileDigest Verdict check_digests content_digests file_sha256",
    ".choices": (
        "ConvertQuantization Level MergeMethod Method OnInt Preset Quantization SearchSampler"
        " WeightBy"
    ),
    ".convert.conversion": "Conversion open_conversion",
    ".convert.preview": "ConversionPreview preview_conversion",
    ".convert.request": "ConvertRequest",
    ".convert.training": "RecordRequest open_record",
    ".convert.write": "ConvertedComponent convert convert_tensors require_free_output",
    ".cluster.workers": "Workers open_workers",
    ".demo": "make_checkpoints",
    ".format.dtypes": "DType",
    ".ledger.data_shard": "images_digest",
    ".merge.answer": "Answer",
    ".merge.apply": "Application apply open_application",
    ".merge.average": "Request average open_job",
    ".merge.bench": "MeasuredSpeed measure_speed",
    ".merge.blocks.request": "BlockWeights ClassicBlocks read_blocks",
    ".merge.delta.make": "DeltaResult make_delta open_delta_job subtract_base",
    ".merge.delta.passes": "DeltaJob DeltaRequest",
    ".merge.delta.preview": "DeltaPreview preview_delta",
    ".merge.diff.compare": "DiffRequest compare_checkpoints",
    ".merge.diff.differences": "CheckpointDifference TensorDifference",
    ".merge.diff.matrix": "DeltaMatrix MatrixRequest compare_deltas",
    ".merge.doctor": "Checkup EngineCheck check_up",
    ".merge.ema.request": "EmaRequest TimeAverage ema time_average",
    ".merge.methods.request": "MergeRequest merge open_merge",
    ".merge.ingredients": "Ingredient",
    ".merge.extract_lora": "ExtractedLayer ExtractedLora Extraction extract_lora",
    ".merge.inspect": "Inspection inspect",
    ".merge.job": "ComponentResult Job",
    ".merge.leave_one_out": "LeaveOneOut Variant leave_one_out open_family",
    ".merge.parts.commit": "PartedJob commit open_parted",
    ".merge.parts.divide": "PartOfPlan parse_part",
    ".merge.parts.make": "PlannedPart make_part open_part",
    ".merge.parts.rebuild": "verify_on_workers",
    ".merge.parts.spread": "Opening make_on_workers require_divisible",
    ".merge.preview": "Preview preview",
    ".merge.query": "ask history holds",
    ".merge.recipes.export": "recipe_of",
    ".merge.recipes.export_pipeline": "recipe_of_soup",
    ".merge.recipes.run": "RecipeRun close_recipe open_recipe open_stage run_recipe",
    ".merge.revise": "open_revision revise",
    ".merge.revision": "Addition Removal Revision",
    ".merge.rounds": "Rounds arrange",
    ".merge.run": "carry_out carry_out_together",
    ".merge.sample_weights": "weighted_by",
    ".merge.sweep": "ShareRange Sweep SweptSoup open_sweep parse_range sweep",
    ".merge.verify": "ProofQuestion Verified verify",
    ".proof.attest": "AttestRequest attest",
    ".proof.check": "CheckedAttestation check_attestation",
    ".proof.describe": "DescribeRequest describe",
    ".proof.push": "PlannedPush PushRequest Pushed plan_push push",
    ".proof.many": "Share SoupFolder VerifiedFolder soups_in verify_folder",
    ".proof.statement": "Attestation",
    ".report.facts": "ReportRequest SoupFacts",
    ".report.publish": "report",
    ".scoring.greedy": "Greedy GreedyChoice greedy open_greedy",
    ".scoring.rank": "IngredientEffect Rank Ranking rank",
    ".scoring.recipe": "chosen_recipe",
    ".scoring.scorer": "Scoring",
    ".scoring.search": "FoundWeights WeightSearch open_search search",
    ".scoring.trials": "Scored",
    ".training.commands": "finetune leave_out_bank patch_dmp sample stack",
    ".workers": "ExecutionOptions",
}
"""The names, by the module that they are imported from."""
HOMES = {name: module for module, names in MODULES.items() for name in names.split()}

__all__ = [*sorted(HOMES)]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOMES[name], __package__), name)

"""The factors of an adapter belong to modules, in every naming that trainers write."""

import json
from fractions import Fraction

import pytest

from soupctl.errors import InputError
from soupctl.format.dtypes import DType
from soupctl.format.header import Tensor
from soupctl.kinds.facts import NO_FACTS
from soupctl.lora.modules import Family, LayerTensor, is_adapter, modules_of
from soupctl.lora.scales import METADATA, read_configs, scale_of
from soupctl.lora.summary import summary_of


def tensors_of(**shapes):
    named = {name.replace("__", "."): shape for name, shape in shapes.items()}
    return {name: Tensor(name, DType.F16, tuple(shape), 0, 0) for name, shape in named.items()}


def tensor_map(shapes):
    return {name: Tensor(name, DType.F16, shape, 0, 0) for name, shape in shapes.items()}


def read(tensors):
    return modules_of(tensors, NO_FACTS, "x.safetensors")


@pytest.mark.parametrize(
    ("down", "up", "module"),
    [
        ("lora_unet_m.lora_down.weight", "lora_unet_m.lora_up.weight", "lora_unet_m"),
        ("unet.m.lora_A.weight", "unet.m.lora_B.weight", "unet.m"),
        ("m.lora_A", "m.lora_B", "m"),
        ("m.lora_A.default.weight", "m.lora_B.default.weight", "m"),
        ("unet.m.lora.down.weight", "unet.m.lora.up.weight", "unet.m"),
        ("m.lora_linear_layer.down.weight", "m.lora_linear_layer.up.weight", "m"),
        (
            "m.processor.to_q_lora.down.weight",
            "m.processor.to_q_lora.up.weight",
            "m.processor.to_q",
        ),
    ],
)
def test_a_lora_is_read_in_every_naming(down, up, module):
    tensors = {n: Tensor(n, DType.F32, s, 0, 0) for n, s in ((down, (4, 8)), (up, (6, 4)))}

    (found,) = read(tensors)

    assert (module, Family.LORA, 4, (6, 8)) == (found.name, found.family, found.rank, found.shape)
    assert is_adapter(tensors)


@pytest.mark.parametrize(
    ("factors", "family", "rank", "shape"),
    [
        (
            {"lora_up__weight": (6, 4, 1, 1), "lora_down__weight": (4, 8, 3, 3)},
            Family.LORA,
            4,
            (6, 72),
        ),
        (
            {
                "lora_up__weight": (6, 4, 1, 1),
                "lora_mid__weight": (4, 4, 3, 3),
                "lora_down__weight": (4, 8, 1, 1),
            },
            *(Family.LORA, 4, (6, 72)),
        ),
        (
            {"hada_w1_a": (6, 2), "hada_w1_b": (2, 8), "hada_w2_a": (6, 2), "hada_w2_b": (2, 8)},
            *(Family.LOHA, 2, (6, 8)),
        ),
        (
            {
                "hada_w1_a": (2, 6),
                "hada_w1_b": (2, 8),
                "hada_t1": (2, 2, 3, 3),
                "hada_w2_a": (2, 6),
                "hada_w2_b": (2, 8),
                "hada_t2": (2, 2, 3, 3),
            },
            *(Family.LOHA, 2, (6, 72)),
        ),
        ({"lokr_w1": (2, 4), "lokr_w2": (3, 2)}, Family.LOKR, None, (6, 8)),
        ({"lokr_w1": (2, 4), "lokr_w2_a": (3, 2), "lokr_w2_b": (2, 2)}, Family.LOKR, 2, (6, 8)),
        (
            {
                "lokr_w1_a": (2, 5),
                "lokr_w1_b": (5, 4),
                "lokr_w2_a": (5, 3),
                "lokr_w2_b": (5, 2),
                "lokr_t2": (5, 5, 3, 3),
            },
            *(Family.LOKR, 5, (6, 72)),
        ),
    ],
)
def test_each_family_has_its_rank_and_shape(factors, family, rank, shape):
    (found,) = read(tensors_of(**{f"m__{name}": size for name, size in factors.items()}))

    assert (family, rank, shape) == (found.family, found.rank, found.shape)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("m__dora_scale", "DoRA"),
        ("m__lora_magnitude_vector", "DoRA"),
        ("m__oft_blocks", "OFT"),
        ("m__boft_R", "BOFT"),
        ("m__set_weight", "not a factor"),
        ("m__lora_A__bias", "LoRA"),
        ("emb_params", "not a factor"),
    ],
)
def test_nonlinear_or_unknown_adapters_are_refused_by_name(extra, words):
    tensors = tensors_of(m__lora_up__weight=(6, 4), m__lora_down__weight=(4, 8), **{extra: (6, 1)})

    with pytest.raises(InputError, match=words) as refused:
        read(tensors)

    assert extra.replace("__", ".") == refused.value.issues[0].tensor


def test_half_a_module_is_refused():
    with pytest.raises(InputError, match="cannot have exactly the factors up"):
        read(tensors_of(m__lora_up__weight=(6, 4)))


def test_a_model_with_a_few_factors_is_no_adapter():
    assert not is_adapter(tensors_of(a__weight=(4, 4), b__weight=(4, 4), a__lora_up__weight=(4, 2)))


def module_of(**factors):
    (found,) = read(tensors_of(**factors))
    return found


LORA = {"unet__m__lora_A__weight": (4, 8), "unet__m__lora_B__weight": (6, 4)}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"lora_alpha": 8, "r": 4}, Fraction(2)),
        ({"lora_alpha": 8, "r": 99}, Fraction(2)),
        ({"lora_alpha": 8, "use_rslora": True}, Fraction(4)),
        ({"lora_alpha": 8, "alpha_pattern": {"m": 1}}, Fraction(1, 4)),
        ({"lora_alpha": 8, "alpha_pattern": {"other": 1}}, Fraction(2)),
        ({}, Fraction(1)),
    ],
)
def test_a_config_of_peft_gives_the_scale(config, expected):
    module = module_of(**LORA)
    beside = read_configs({}, json.dumps(config).encode(), "x")
    within = read_configs(
        {METADATA: json.dumps({f"unet.{k}": v for k, v in config.items()})}, None, "x"
    )

    assert (expected, expected) == (scale_of(module, None, beside), scale_of(module, None, within))


def test_alpha_in_the_file_is_divided_by_the_rank():
    assert Fraction(1, 2) == scale_of(module_of(**LORA), Fraction(2), {})


def test_the_alpha_of_two_whole_factors_does_not_count_but_a_rank_of_peft_does():
    module = module_of(m__lokr_w1=(2, 4), m__lokr_w2=(3, 2))
    config = read_configs({}, b'{"alpha": 8, "r": 16, "rank_pattern": {"m": 4}}', "x")

    assert Fraction(1) == scale_of(module, Fraction(9999220736), {})
    assert Fraction(2) == scale_of(module, None, config)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (b'{"use_dora": true}', "DoRA"),
        (b'{"fan_in_fan_out": true}', "transposed"),
        (b'{"lora_alpha": "8"}', "alpha is '8'"),
        (b'{"r": 0}', "rank is 0"),
        (b'{"alpha_pattern": {".*q": 8}}', "regular expression"),
        (b"[1]", "not a JSON object"),
        (b'{"lora_alpha": NaN}', "alpha is nan"),
    ],
)
def test_a_config_that_asks_for_more_than_a_scale_is_refused(config, words):
    with pytest.raises(InputError, match=words):
        read_configs({}, config, "x")


def test_a_summary_counts_families_and_ranks():
    tensors = tensors_of(
        a__lora_up__weight=(6, 4),
        a__lora_down__weight=(4, 8),
        a__alpha=(),
        b__lokr_w1=(2, 2),
        b__lokr_w2=(2, 2),
    )

    found = summary_of(tensors, {}, NO_FACTS, "x")

    assert ({"LoKr": 1, "LoRA": 1}, {4: 1}, 1) == (found.families, found.ranks, found.with_alpha)
    assert summary_of(tensors_of(a__weight=(4, 4)), {}, NO_FACTS, "x") is None
    assert (
        "a.dora_scale"
        in summary_of(tensors | tensors_of(a__dora_scale=(6, 1)), {}, NO_FACTS, "x").problem
    )


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"ss_network_args": '{"dora_wd": "True"}'}, "DoRA.*ss_network_args: dora_wd"),
        ({"ss_network_args": '{"use_dora": true}'}, "DoRA"),
        ({"ss_network_args": '{"algo": "dora"}'}, "DoRA.*algo"),
        ({"ss_use_dora": "1"}, "DoRA.*ss_use_dora"),
        ({"use_dora": "true"}, "DoRA"),
        ({"ss_network_module": "networks.dora"}, "DoRA.*ss_network_module"),
        ({"ot_config": '{"peft_type": "LORA", "lora_decompose": true}'}, "DoRA.*ot_config"),
        ({METADATA: '{"use_dora": true}'}, "DoRA"),
        ({METADATA: '{"init_lora_weights": "pissa_niter_16"}'}, "changed .pissa_niter_16."),
        ({"ss_network_args": '{"use_rslora": "True"}'}, "rsLoRA"),
        ({"ss_network_args": '{"pissa_init": "True"}'}, "changed by its initialisation .pissa."),
    ],
)
def test_metadata_alone_tells_that_an_update_is_another(metadata, words):
    with pytest.raises(InputError, match=words):
        read_configs(metadata, None, "x")


@pytest.mark.parametrize(
    "metadata",
    [
        {"ss_network_args": '{"dora_wd": "False", "algo": "locon", "rank_dropout": "0.1"}'},
        {"ss_network_args": '{"rs_lora": "True"}', "ss_network_module": "lycoris.kohya"},
        {"ss_network_args": "not JSON", "ot_config": "[]", "ss_scale_weight_norms": "1.0"},
        {"ss_network_module": "networks.lora_fa", "ss_use_dora": "None"},
        {"ss_training_comment": "dora", "modelspec.title": "dora", "dora": "no"},
        {METADATA: '{"init_lora_weights": true}'},
        {METADATA: '{"init_lora_weights": "eva"}'},
        {"ot_config": '{"peft_type": "LOHA", "lora_decompose": true}'},
    ],
)
def test_metadata_that_changes_no_update_is_accepted(metadata):
    assert read_configs(metadata, None, "x").keys() <= {""}


def test_a_summary_names_what_only_metadata_tells():
    tensors = tensors_of(m__lora_up__weight=(6, 4), m__lora_down__weight=(4, 8))

    found = summary_of(tensors, {"ss_use_dora": "True"}, NO_FACTS, "x")

    assert "is an adapter with DoRA by its metadata (ss_use_dora)" in found.problem


@pytest.mark.parametrize(
    ("name", "layer", "parameter", "rank"),
    [
        ("m.diff", "m", LayerTensor.WEIGHT, None),
        ("m.diff_b", "m", LayerTensor.BIAS, None),
        ("m.diff_m", "m", LayerTensor.MODULATION, None),
        ("n.w_norm", "n", LayerTensor.WEIGHT, None),
        ("n.b_norm", "n", LayerTensor.BIAS, None),
        ("m.lora_B.bias", "m", LayerTensor.BIAS, 4),
        ("m.lora_up.default.bias", "m", LayerTensor.BIAS, 4),
    ],
)
def test_full_differences_are_modules_of_their_own(name, layer, parameter, rank):
    tensors = tensor_map({name: (6,), "m.lora_A.weight": (4, 8), "m.lora_B.weight": (6, 4)})

    found = {each.name: each for each in read(tensors)}

    full = found[name]
    assert (layer, parameter, Family.FULL) == (full.layer, full.parameter, full.family)
    assert (rank, (6, 1)) == (full.rank, full.shape)
    alone = read_configs({}, b'{"lora_alpha": 8, "r": 4}', "x")
    # only the bias of a LoRA is multiplied by its scale
    assert Fraction(1 if rank is None else 2) == scale_of(full, None, alone)

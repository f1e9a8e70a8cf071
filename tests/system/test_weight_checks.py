# SPDX-License-Identifier: Apache-2.0
import json
import math

import pytest
import torch

from pippin.system.weight_checks import (
    check_cast,
    check_finite,
    dequantise,
    refuse_quantisation,
    refuse_quantised,
)

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stored(weight, block=None, dtype=E4M3):
    """float8 numbers and the scales that they are to be multiplied by, one a block."""
    rows, columns = block or weight.shape
    scale = torch.stack(
        [
            torch.stack([part.abs().max() for part in row.split(columns, 1)])
            for row in weight.split(rows, 0)
        ]
    )
    scale = scale / torch.finfo(dtype).max
    wide = scale.repeat_interleave(rows, 0)[: len(weight)]
    wide = wide.repeat_interleave(columns, 1)[:, : weight.shape[1]]
    return (weight / wide).to(dtype), scale


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("end", ["weight_scale", "scale_weight", "weight_scale_inv"])
@pytest.mark.parametrize("dtype", [E4M3, E5M2])
def test_scales_of_a_tensor_are_multiplied_out(end, dtype):
    weight = 0.01 * numbers(8, 6)
    eight, scale = stored(weight, dtype=dtype)
    given = {"a.weight": eight, f"a.{end}": scale.reshape(()), "a.input_scale": torch.ones(())}
    given |= {"b.weight": weight, "scaled_fp8": torch.zeros(2).to(dtype)}
    found, notes = dequantise(given, "w")
    assert set(found) == {"a.weight", "b.weight"} and found["a.weight"].dtype == torch.float32
    assert relative(found["a.weight"], weight) < 0.05 < relative(eight.float(), weight)
    assert notes == ("1 tensors are stored in float8: multiplied by their scales",)


@pytest.mark.parametrize(
    ("shape", "block"),
    [((8, 6), (1, 6)), ((300, 520), (128, 128)), ((8, 6), (4, 2)), ((256, 64), (128, 128))],
)
def test_scales_of_rows_and_of_blocks(shape, block):
    weight = 0.01 * numbers(*shape) * torch.logspace(-2, 2, shape[0])[:, None]
    eight, scale = stored(weight, block)
    found, _ = dequantise({"a.weight": eight, "a.weight_scale_inv": scale}, "w")
    expected = torch.empty(shape)
    for i in range(shape[0]):
        for j in range(0, shape[1], block[1]):
            part = slice(j, j + block[1])
            expected[i, part] = eight[i, part].float() * scale[i // block[0], j // block[1]]
    assert torch.equal(found["a.weight"], expected)
    assert relative(found["a.weight"], weight) < 0.05


def test_one_number_a_row_without_a_second_axis():
    eight, scale = stored(numbers(8, 8), (1, 8))
    found, _ = dequantise({"a.weight": eight, "a.weight_scale": scale[:, 0]}, "w")
    assert torch.equal(found["a.weight"], eight.float() * scale)


def test_float8_without_scales_is_read_as_it_is_and_said():
    weight = numbers(4, 4).to(E5M2)
    found, notes = dequantise({"a.weight": weight}, "w")
    assert torch.equal(found["a.weight"].float(), weight.float())
    assert "without scales: read unchanged" in notes[0]


EIGHT, ONE = numbers(4, 4).to(E4M3), torch.ones(())
REFUSED = {
    "half with a scale": ({"a.weight": numbers(4, 4).half(), "a.weight_scale": ONE}, "not float8"),
    "a scale of nothing": ({"a.weight_scale": ONE}, "a.weight_scale is a scale"),
    "two scales": (
        {"a.weight": EIGHT, "a.weight_scale": ONE, "a.scale_weight": ONE},
        "has another scale",
    ),
    "one without": (
        {"a.weight": EIGHT, "b.weight": EIGHT, "a.weight_scale": ONE},
        "1 float8 weights have no scale, but others have one: b.weight",
    ),
    "a scale of a shape that fits nothing": (
        {"a.weight": EIGHT, "a.weight_scale": torch.ones(3)},
        r"has shape \(3,\), which does not fit the weight's shape \(4, 4\)",
    ),
    "blocks of an odd size": (
        {"a.weight": numbers(300, 4).to(E4M3), "a.weight_scale": torch.ones(6, 1)},
        "does not fit the",
    ),
    "a scale by a name of its own": (
        {"a.weight": EIGHT, "a.weight.scale": ONE},
        r"in float8 with unknown metadata: a\.weight\.scale",
    ),
    "a second scale": (
        {"a.weight": EIGHT, "a.weight_scale": ONE, "a.weight_scale_2": ONE},
        "by modelopt: a.weight_scale_2",
    ),
    "int8": ({"a.weight": torch.ones(4, 4, dtype=torch.int8), "a.weight_scale": ONE}, "as int8"),
    "packed in bytes": ({"a.weight": torch.ones(4, dtype=torch.uint8)}, "as uint8: a.weight"),
    "bitsandbytes, 4 bits": (
        {"a.weight": torch.ones(4, 1, dtype=torch.uint8), "a.weight.absmax": ONE},
        "by bitsandbytes: a.weight.absmax",
    ),
    "its state": (
        {"a.weight.quant_state.bitsandbytes__nf4": torch.ones(4, dtype=torch.uint8)},
        "by bitsandbytes",
    ),
    "bitsandbytes, 8 bits": (
        {"a.weight": torch.ones(4, 4, dtype=torch.int8), "a.SCB": torch.ones(4)},
        "by bitsandbytes: a.SCB",
    ),
    "GPTQ": ({"a.qweight": torch.ones(1, 4, dtype=torch.int32)}, "by GPTQ or AWQ"),
    "quanto": ({"a.weight._data": EIGHT, "a.weight._scale": ONE}, "by quanto"),
    "torchao": ({"a.weight:_weight_qdata": EIGHT}, "by torchao"),
    "compressed-tensors": ({"a.weight_packed": torch.ones(4).int()}, "by compressed-tensors"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unsupported_quantisation_is_refused_by_name(case):
    given, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as caught:
        dequantise(given, "weights of W")
    assert "weights of W" in str(caught.value)
    assert "give the original weights in float32" in str(caught.value)


def comfy(**facts):
    words = torch.tensor(list(json.dumps(facts).encode()), dtype=torch.uint8)
    return {"a.weight": EIGHT, "a.weight_scale": ONE, "a.comfy_quant": words}


def test_what_comfyui_says_of_a_layer_is_read():
    found, _ = dequantise(comfy(format="float8_e4m3fn"), "w")
    assert set(found) == {"a.weight"}
    for facts in ({"format": "nvfp4"}, {"format": "float8_e4m3fn", "rotated": True}, {}):
        with pytest.raises(ValueError, match=r"as a\.comfy_quant says"):
            dequantise(comfy(**facts), "w")


def test_names_that_only_look_like_scales_pass():
    plain = {"blocks.0.scale_shift_table": numbers(6, 4), "logit_scale": ONE, "norm.scale": ONE}
    found, notes = dequantise(plain, "w")
    assert set(found) == set(plain) and notes == ()
    eight = {"blocks.0.attn.weight": EIGHT, "blocks.0.scale_shift_table": numbers(6, 4)}
    assert set(dequantise(eight, "w")[0]) == set(eight)
    masks = {"h.0.attn.bias": "U8", "h.0.attn.masked_bias": "F32", "position_ids": "I64"}
    refuse_quantised(masks, "w")


def test_scales_are_refused_where_nobody_multiplies_them():
    refuse_quantised({"a.weight": "F8_E4M3", "b.weight": "BF16"}, "w")
    for name in ("a.weight_scale", "a.scale_weight", "a.input_scale", "scaled_fp8"):
        with pytest.raises(ValueError, match=f"with separate scales: {name}"):
            refuse_quantised({"a.weight": "F8_E4M3", name: "F32"}, "w")


def test_a_configuration_that_says_so():
    refuse_quantisation({"quantization_config": None}, "w")
    with pytest.raises(ValueError, match="w: the weights are quantised by fp8"):
        refuse_quantisation({"quantization_config": {"quant_method": "fp8"}}, "w")


def test_numbers_that_are_not_finite_are_counted_by_tensor():
    good = {"a": numbers(3), "n": torch.ones(2, dtype=torch.long), "e": torch.zeros(0)}
    good |= {"h": torch.tensor([65504.0]).half(), "f": numbers(2).to(E4M3)}
    check_finite(good, "w")
    bad = torch.tensor([1.0, math.nan, math.nan, math.inf, -math.inf])
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64, E5M2):
        given = good | {"x.bias": bad.to(dtype)}
        with pytest.raises(
            ValueError, match=r"in 1 of 6 tensors: x\.bias \(2 NaN, 2 infinite of 5"
        ):
            check_finite(given, "w")
    with pytest.raises(ValueError, match=r"a \(1 NaN of 1 numbers\)"):
        check_finite({"a": torch.tensor([math.nan]).to(E4M3)}, "w")


def test_numbers_that_a_type_cannot_hold_are_named():
    given = {"a": torch.tensor([1.0, -70_000.0]), "b": torch.tensor([65_504.0])}
    for dtype in (torch.float32, torch.bfloat16):
        check_cast(given, dtype, "w")
    with pytest.raises(ValueError, match=r"w: 1 tensors .* infinite in float16, .* 65504: a; "):
        check_cast(given, torch.float16, "w")

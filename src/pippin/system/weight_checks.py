# SPDX-License-Identifier: Apache-2.0
"""Checks of weights that others stored: numbers that are not finite, and numbers of few bits.

Weights of 8 bits or fewer mean something only with what stands beside them: scales, tables of
values, zero points. float8 weights with plain scales are multiplied out; all else is refused by
its name, for read as numbers it would give another model without a word.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pippin.system.json_text import parse_json
from pippin.system.weight_files import type_name

FLOATS = ("F64", "F32", "F16", "BF16")
FLOAT8 = ("F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ")
"""Types that are numbers by themselves."""
FEW_BITS = re.compile(r"^(I8|U8|F4|F6.*|F8_E8M0|torch\.(q?u?int\d(x\d)?|.*float[48].*|bits.*))$")
"""Types that hold quantised weights, or are packed."""
WORDS = {"I8": "int8", "U8": "uint8"}
MARKS = {
    "bitsandbytes": r"\.(absmax|quant_map|nested_(absmax|quant_map)|SCB|weight_format)$"
    r"|\.quant_state\.",
    "GPTQ or AWQ": r"\.(qweight|qzeros|g_idx|scales)$",
    "SVDQuant": r"\.(wscales|wzeros|smooth_factor)$",
    "HQQ": r"\.W_q$",
    "quanto": r"\._(data|scale|shift)$",
    "torchao": r":\w+$|\._weight_(qdata|scale|zero_point)$",
    "modelopt": r"(_amax|weight_scale_2)$",
    "compressed-tensors": r"\.weight_(packed|zero_point|shape|g_idx|global_scale)$",
    "torch.ao": r"\._packed_params(\.|$)",
}
"""Library -> names of tensors that only its quantised weights have."""
SCALES = {".weight_scale": ".weight", ".scale_weight": ".weight", ".weight_scale_inv": ".weight"}
"""End of a scale's name -> that of what it multiplies. ``weight_scale_inv`` multiplies too: it is
the inverse of what the weights were multiplied by when they were stored."""
OF_INPUTS = (".input_scale", ".scale_input")
"""Of layers' inputs, which are not quantised here."""
MARKERS = ("scaled_fp8",)
"""Tensors whose names alone say something."""
COMFY = ".comfy_quant"
"""JSON as bytes, which says how a layer is quantised."""
BLOCK = 128
"""Side of the blocks that share a scale, where shapes do not divide."""
ADVICE = "give the weights in float32, float16 or bfloat16 that they were made of"
NAMED = 3


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights that are not numbers.

    Args:
        tensors: by name; those of whole numbers pass.
        where: they are from, for the message.

    Raises:
        ValueError: NaN or infinite numbers; tensors and counts are named.
    """
    odd = []
    for name, value in tensors.items():
        if value.is_floating_point() and not is_finite(value):
            wide = value.float()
            nan, infinite = int(wide.isnan().sum()), int(wide.isinf().sum())
            counts = [f"{nan} NaN"] * (nan > 0) + [f"{infinite} infinite"] * (infinite > 0)
            odd.append(f"{name} ({', '.join(counts)} of {value.numel()} numbers)")
    if odd:
        raise ValueError(
            f"{where}: weights that are not finite numbers, in {len(odd)} of {len(tensors)} "
            f"tensors: {listed(odd)}. Nothing that such a model computes means anything: give an "
            "earlier checkpoint, or other weights of it"
        )


def check_cast(tensors: Mapping[str, Tensor], dtype: torch.dtype, where: str) -> None:
    """Refuse to store numbers in a type that is too small for them.

    Raises:
        ValueError: they would be infinite; tensors are named.
    """
    large = [name for name, value in tensors.items() if not is_finite(value, dtype)]
    if large:
        kind = str(dtype).removeprefix("torch.")
        raise ValueError(
            f"{where}: {len(large)} tensors have numbers that are infinite in {kind}, whose "
            f"largest is {torch.finfo(dtype).max:.5g}: {listed(large)}; choose --dtype bfloat16 "
            "or float32"
        )


def is_finite(value: Tensor, dtype: torch.dtype | None = None) -> bool:
    """Whether all numbers of a tensor are, in its own type or cast to another; found without a
    mask as large as the tensor."""
    if not value.numel():
        return True
    wide = value.float() if type_name(value.dtype) in FLOAT8 else value
    ends = torch.stack(torch.aminmax(wide.detach()))
    return bool(ends.to(dtype or ends.dtype).isfinite().all())


def refuse_quantised(types: Mapping[str, str], where: str, scales: tuple[str, ...] = ()) -> None:
    """Refuse tensors that are no weights by themselves.

    Args:
        types: of each tensor, as :func:`pippin.system.weight_files.stored_types` gives them.
        where: they are from, for the message.
        scales: ends of names of scales that the caller multiplies out.

    Raises:
        ValueError: quantised weights; the message names tensors and, where their names say it,
            the library.
    """
    for library, pattern in MARKS.items():
        if found := sorted(name for name in types if re.search(pattern, name)):
            raise _quantised(where, f"by {library}: {listed(found)}")
    beside = [name for name in types if name.endswith((*SCALES, *OF_INPUTS, COMFY, *MARKERS))]
    if found := sorted(name for name in beside if not name.endswith(scales or ("\0",))):
        raise _quantised(where, f"with scales beside them: {listed(found)}")
    small = [name for name, kind in types.items() if FEW_BITS.match(kind)]
    if small := sorted(name for name in small if name.endswith("weight")):  # masks are bytes too
        kind = WORDS.get(types[small[0]], types[small[0]].removeprefix("torch."))
        raise _quantised(where, f"as {kind}: {listed(small)}")


def refuse_quantisation(config: Mapping[str, Any], where: str) -> None:
    """Refuse a model whose config.json says that its weights are quantised.

    Raises:
        ValueError: it does; the method is named.
    """
    facts = config.get("quantization_config")
    if facts is not None:
        method = facts.get("quant_method") if isinstance(facts, Mapping) else None
        raise _quantised(where, f"by {method or 'an unknown method'}, as config.json says")


def _quantised(where: str, how: str) -> ValueError:
    return ValueError(
        f"{where}: the weights are quantised {how}. pippin does not read these: {ADVICE}"
    )


def dequantised(
    tensors: Mapping[str, Tensor], where: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Weights with the scales beside them multiplied out, and notes on it.

    Args:
        tensors: by name.
        where: they are from, for messages.

    Returns:
        Tensors without scales, those that had one in float32; all others as they are.

    Raises:
        ValueError: weights that are quantised in another way, scales that do not fit them, or
            float8 weights some of which have scales and some have not.
    """
    types = {name: type_name(value.dtype) for name, value in tensors.items()}
    refuse_quantised(types, where, (*SCALES, *OF_INPUTS, COMFY, *MARKERS))
    eights = {name for name, kind in types.items() if kind in FLOAT8 and tensors[name].numel()}
    eights -= {name for name in eights if name.endswith(MARKERS)}
    scales = _scales(tensors, eights, where)
    _refuse_unknown(tensors, eights, scales, where)
    if not eights:
        return dict(tensors), ()
    note = f"{len(eights)} tensors are stored in float8"
    if not scales:
        return _kept(tensors), (f"{note}, without scales: read as they are, to 3 bits or fewer",)
    if bare := sorted(eights - set(scales)):
        raise ValueError(
            f"{where}: {len(bare)} float8 weights have no scale beside them and others have: "
            f"{listed(bare)}; {ADVICE}"
        )
    plain = {
        name: _multiplied(name, tensors[name], tensors[scale], where)
        for name, scale in scales.items()
    }
    return _kept(tensors) | plain, (f"{note}: multiplied by the scales beside them",)


def check_plain(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights that cannot be read as they are: quantised ones, and numbers that are not
    finite.

    Raises:
        ValueError: naming them.
    """
    refuse_quantised({name: type_name(value.dtype) for name, value in tensors.items()}, where)
    check_finite(tensors, where)


def _kept(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what belongs to quantised weights."""
    ends = (*SCALES, *OF_INPUTS, COMFY, *MARKERS)
    return {name: value for name, value in tensors.items() if not name.endswith(ends)}


def _scales(tensors: Mapping[str, Tensor], eights: set[str], where: str) -> dict[str, str]:
    """Weight -> its scale.

    Raises:
        ValueError: a scale of something that is not there or not float8, or two of one.
    """
    found: dict[str, str] = {}
    for name in tensors:
        end = next((end for end in SCALES if name.endswith(end)), None)
        if end is None:
            continue
        weight = name.removesuffix(end) + SCALES[end]
        if weight not in eights or weight in found:
            raise ValueError(
                f"{where}: {name} is a scale, but {weight} beside it is not float8, is not there "
                f"or has another scale; {ADVICE}"
            )
        found[weight] = name
    return found


def _refuse_unknown(
    tensors: Mapping[str, Tensor], eights: set[str], scales: dict[str, str], where: str
) -> None:
    """Refuse what says something of float8 weights that is not understood."""
    for name in (name for name in tensors if name.endswith(COMFY)):
        try:
            facts = parse_json(bytes(tensors[name].tolist()))
            plain = str(facts["format"]).startswith("float8_")
            plain = plain and set(facts) <= {"format", "full_precision_matrix_mult"}
        except (ValueError, TypeError, KeyError):
            plain = False
        if not plain:
            raise _quantised(where, f"as {name} says")
    layers = {name.rpartition(".")[0] for name in eights}
    words = re.compile(r"scale|amax|zero_point")
    odd = sorted(
        name
        for name in set(tensors) - eights - set(scales.values())
        if words.search(name.rpartition(".")[2])
        and not name.endswith((*OF_INPUTS, *MARKERS))
        and (name.rpartition(".")[0] in layers | eights)
    )
    if odd:
        raise _quantised(where, f"in float8 with {listed(odd)} beside them")


def _multiplied(name: str, weight: Tensor, scale: Tensor, where: str) -> Tensor:
    """A weight by its scale: of the tensor, of each row, or of each block."""
    if not scale.is_floating_point() or type_name(scale.dtype) not in FLOATS:
        raise ValueError(
            f"{where}: the scale of {name} is stored as {type_name(scale.dtype)}; {ADVICE}"
        )
    wide, scale = weight.float(), scale.float()
    if scale.numel() == 1:
        return wide * scale.reshape(())
    if scale.dim() == 1 and len(scale) == weight.shape[0]:
        return wide * scale.reshape(-1, *[1] * (weight.dim() - 1))
    sides = [_block(size, count) for size, count in zip(weight.shape, scale.shape, strict=False)]
    if scale.dim() != weight.dim() or None in sides:
        raise ValueError(
            f"{where}: the scale of {name} has shape {tuple(scale.shape)}, which does not say "
            f"what of {tuple(weight.shape)} each number scales; {ADVICE}"
        )
    for axis, side in enumerate(sides):
        assert side is not None
        scale = scale.repeat_interleave(side, axis).narrow(axis, 0, weight.shape[axis])
    return wide * scale


def _block(size: int, count: int) -> int | None:
    """How many of ``size`` numbers share one of ``count`` scales: one, all, a power of two, or
    :data:`BLOCK` with fewer in the last block; None where it is none of these."""
    side = size // count if count and size % count == 0 else 0
    if side in (1, size) or (side and side & (side - 1) == 0):
        return side
    return BLOCK if math.ceil(size / BLOCK) == count else None


def listed(names: list[str]) -> str:
    """The first few of many names."""
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")

# SPDX-License-Identifier: Apache-2.0
"""Checks of foreign weights: non-finite values and quantised types.

Weights of 8 bits or fewer need their metadata: scales, lookup tables, zero points. float8 weights
with plain scales are dequantised; everything else is refused by name, because reading the raw
numbers would silently give another model.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pippin.system.formats import parse_json
from pippin.system.weight_files import type_name

FLOATS = ("F64", "F32", "F16", "BF16")
FLOAT8 = ("F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ")
"""Types that need no metadata."""
FEW_BITS = re.compile(r"^(I8|U8|F4|F6.*|F8_E8M0|torch\.(q?u?int\d(x\d)?|.*float[48].*|bits.*))$")
"""Types of quantised or packed weights."""
DTYPE_NAMES = {"I8": "int8", "U8": "uint8"}
LIBRARY_PATTERNS = {
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
"""Library -> pattern of tensor names that only its quantised weights have."""
SCALES = {".weight_scale": ".weight", ".scale_weight": ".weight", ".weight_scale_inv": ".weight"}
"""Suffix of a scale's name -> suffix of the weight that it multiplies. ``weight_scale_inv`` also
multiplies: it is the inverse of the factor applied when the weights were stored."""
INPUT_SCALES = (".input_scale", ".scale_input")
"""Suffixes of scales of layer inputs, which are not quantised here."""
MARKERS = ("scaled_fp8",)
"""Marker tensors, which carry information by name only."""
COMFY = ".comfy_quant"
"""Suffix of a JSON byte tensor that describes a layer's quantisation."""
BLOCK = 128
"""Side of the blocks that share a scale, if shapes do not divide evenly."""
ADVICE = "give the original weights in float32, float16 or bfloat16"
MAX_NAMES = 3


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse non-finite weights.

    Args:
        tensors: by name; integer tensors pass.
        where: their source, for the message.

    Raises:
        ValueError: NaN or infinite values; the message names tensors and counts.
    """
    problems = []
    for name, value in tensors.items():
        if value.is_floating_point() and not is_finite(value):
            wide = value.float()
            nan, infinite = int(wide.isnan().sum()), int(wide.isinf().sum())
            counts = [f"{nan} NaN"] * (nan > 0) + [f"{infinite} infinite"] * (infinite > 0)
            problems.append(f"{name} ({', '.join(counts)} of {value.numel()} numbers)")
    if problems:
        raise ValueError(
            f"{where}: weights that are not finite numbers, in {len(problems)} of {len(tensors)} "
            f"tensors: {join_names(problems)}. Such a model computes nothing meaningful: give an "
            "earlier checkpoint, or other weights"
        )


def check_cast(tensors: Mapping[str, Tensor], dtype: torch.dtype, where: str) -> None:
    """Refuse a cast to a dtype that overflows.

    Raises:
        ValueError: values would be infinite; the message names the tensors.
    """
    large = [name for name, value in tensors.items() if not is_finite(value, dtype)]
    if large:
        kind = str(dtype).removeprefix("torch.")
        raise ValueError(
            f"{where}: {len(large)} tensors have values that are infinite in {kind}, whose "
            f"maximum is {torch.finfo(dtype).max:.5g}: {join_names(large)}; choose --dtype "
            "bfloat16 or float32"
        )


def is_finite(value: Tensor, dtype: torch.dtype | None = None) -> bool:
    """Whether all values of a tensor are finite, in its dtype or cast to another. Needs no mask of
    the tensor's size."""
    if not value.numel():
        return True
    wide = value.float() if type_name(value.dtype) in FLOAT8 else value
    ends = torch.stack(torch.aminmax(wide.detach()))
    return bool(ends.to(dtype or ends.dtype).isfinite().all())


def refuse_quantised(types: Mapping[str, str], where: str, scales: tuple[str, ...] = ()) -> None:
    """Refuse quantised weights.

    Args:
        types: type of each tensor, as :func:`pippin.system.weight_files.stored_types` gives them.
        where: their source, for the message.
        scales: name suffixes of scales that the caller applies itself.

    Raises:
        ValueError: quantised weights; the message names tensors and, if recognised, the library.
    """
    for library, pattern in LIBRARY_PATTERNS.items():
        if names := sorted(name for name in types if re.search(pattern, name)):
            raise _quantised(where, f"by {library}: {join_names(names)}")
    metadata = [name for name in types if name.endswith((*SCALES, *INPUT_SCALES, COMFY, *MARKERS))]
    if names := sorted(name for name in metadata if not name.endswith(scales or ("\0",))):
        raise _quantised(where, f"with separate scales: {join_names(names)}")
    small = [name for name, kind in types.items() if FEW_BITS.match(kind)]
    if small := sorted(name for name in small if name.endswith("weight")):  # masks are bytes too
        kind = DTYPE_NAMES.get(types[small[0]], types[small[0]].removeprefix("torch."))
        raise _quantised(where, f"as {kind}: {join_names(small)}")


def refuse_quantisation(config: Mapping[str, Any], where: str) -> None:
    """Refuse a model whose config.json declares quantised weights.

    Raises:
        ValueError: quantised; the message names the method.
    """
    facts = config.get("quantization_config")
    if facts is not None:
        method = facts.get("quant_method") if isinstance(facts, Mapping) else None
        raise _quantised(where, f"by {method or 'an unknown method'}, as config.json says")


def _quantised(where: str, how: str) -> ValueError:
    return ValueError(
        f"{where}: the weights are quantised {how}. pippin does not read these: {ADVICE}"
    )


def dequantise(
    tensors: Mapping[str, Tensor], where: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Dequantise weights that come with separate scales.

    Args:
        tensors: by name.
        where: their source, for messages.

    Returns:
        Tensors without scales, dequantised ones in float32, others unchanged; and notes.

    Raises:
        ValueError: another kind of quantisation, scales that do not fit, or float8 weights only
            some of which have scales.
    """
    types = {name: type_name(value.dtype) for name, value in tensors.items()}
    refuse_quantised(types, where, (*SCALES, *INPUT_SCALES, COMFY, *MARKERS))
    float8_names = {
        name for name, kind in types.items() if kind in FLOAT8 and tensors[name].numel()
    }
    float8_names -= {name for name in float8_names if name.endswith(MARKERS)}
    scales = _scales(tensors, float8_names, where)
    _refuse_unknown(tensors, float8_names, scales, where)
    if not float8_names:
        return dict(tensors), ()
    note = f"{len(float8_names)} tensors are stored in float8"
    if not scales:
        return _without_metadata(tensors), (
            f"{note}, without scales: read unchanged, with 3 mantissa bits or fewer",
        )
    if bare := sorted(float8_names - set(scales)):
        raise ValueError(
            f"{where}: {len(bare)} float8 weights have no scale, but others have one: "
            f"{join_names(bare)}; {ADVICE}"
        )
    plain = {
        name: _scaled(name, tensors[name], tensors[scale], where) for name, scale in scales.items()
    }
    return _without_metadata(tensors) | plain, (f"{note}: multiplied by their scales",)


def check_plain(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse quantised or non-finite weights.

    Raises:
        ValueError: the message names them.
    """
    refuse_quantised({name: type_name(value.dtype) for name, value in tensors.items()}, where)
    check_finite(tensors, where)


def _without_metadata(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors without the metadata of quantisation."""
    suffixes = (*SCALES, *INPUT_SCALES, COMFY, *MARKERS)
    return {name: value for name, value in tensors.items() if not name.endswith(suffixes)}


def _scales(tensors: Mapping[str, Tensor], float8_names: set[str], where: str) -> dict[str, str]:
    """Map from weight name to scale name.

    Raises:
        ValueError: a scale without a float8 weight, or two scales of one weight.
    """
    scales: dict[str, str] = {}
    for name in tensors:
        suffix = next((suffix for suffix in SCALES if name.endswith(suffix)), None)
        if suffix is None:
            continue
        weight = name.removesuffix(suffix) + SCALES[suffix]
        if weight not in float8_names or weight in scales:
            raise ValueError(
                f"{where}: {name} is a scale, but {weight} is missing, is not float8 or has "
                f"another scale; {ADVICE}"
            )
        scales[weight] = name
    return scales


def _refuse_unknown(
    tensors: Mapping[str, Tensor], float8_names: set[str], scales: dict[str, str], where: str
) -> None:
    """Refuse unknown metadata of float8 weights."""
    for name in (name for name in tensors if name.endswith(COMFY)):
        try:
            facts = parse_json(bytes(tensors[name].tolist()))
            plain = str(facts["format"]).startswith("float8_")
            plain = plain and set(facts) <= {"format", "full_precision_matrix_mult"}
        except (ValueError, TypeError, KeyError):
            plain = False
        if not plain:
            raise _quantised(where, f"as {name} says")
    layers = {name.rpartition(".")[0] for name in float8_names}
    keywords = re.compile(r"scale|amax|zero_point")
    problems = sorted(
        name
        for name in set(tensors) - float8_names - set(scales.values())
        if keywords.search(name.rpartition(".")[2])
        and not name.endswith((*INPUT_SCALES, *MARKERS))
        and (name.rpartition(".")[0] in layers | float8_names)
    )
    if problems:
        raise _quantised(where, f"in float8 with unknown metadata: {join_names(problems)}")


def _scaled(name: str, weight: Tensor, scale: Tensor, where: str) -> Tensor:
    """Multiply a weight by its scale per tensor, per row or per block."""
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
            f"{where}: the scale of {name} has shape {tuple(scale.shape)}, which does not fit the "
            f"weight's shape {tuple(weight.shape)}; {ADVICE}"
        )
    for axis, side in enumerate(sides):
        assert side is not None
        scale = scale.repeat_interleave(side, axis).narrow(axis, 0, weight.shape[axis])
    return wide * scale


def _block(size: int, count: int) -> int | None:
    """Block length when ``size`` values share ``count`` scales: one, all, a power of two, or
    :data:`BLOCK` with a shorter last block; None for anything else."""
    side = size // count if count and size % count == 0 else 0
    if side in (1, size) or (side and side & (side - 1) == 0):
        return side
    return BLOCK if math.ceil(size / BLOCK) == count else None


def join_names(names: list[str]) -> str:
    """The first few of many names."""
    return ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")

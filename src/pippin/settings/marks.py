# SPDX-License-Identifier: Apache-2.0
"""Marks of settings, in the metadata of dataclass fields: part of the protocol or not, and the
values of earlier records."""

import dataclasses
from collections.abc import Callable
from typing import Any

from pippin.control import LATER

NOT_PROTOCOL: dict[str, Any] = {"protocol": False}
"""``field(metadata=NOT_PROTOCOL)`` marks a setting that cannot change measured numbers: paths,
device, workers, micro-batch size, logging intervals."""
PROTOCOL_IF_CHANGED = LATER
"""``field(default=..., metadata=PROTOCOL_IF_CHANGED)`` marks a setting that was added after
results were kept, and whose default is the earlier behaviour. It is part of the protocol only if
it differs from the default, so that older fingerprints stay valid."""


def added_later(earlier_value: Any) -> dict[str, Any]:
    """Metadata of a setting that was added after results were kept, and whose default may differ
    from the earlier behaviour.

    A record without the setting is read with ``earlier_value``, so that it is replayed as it was
    made. The setting is part of the protocol only if it differs from ``earlier_value``, so that
    older fingerprints stay valid.
    """
    return PROTOCOL_IF_CHANGED | {"before": earlier_value}


def protocol_as(kind: Callable[[Any], Any]) -> dict[str, Any]:
    """Metadata of a setting for which a protocol records a kind instead of the value, such as a
    path whose content is part of every measure's own protocol.

    Args:
        kind: function from a value to its kind in the protocol.
    """
    return {"counts as": kind}


def stored_as(earlier: dict[str, Any]) -> dict[str, Any]:
    """Metadata of a setting whose values had other names when results were kept.

    Args:
        earlier: current value -> stored value in records and protocols, so that older records are
            read and their fingerprints stay valid. Other values are stored as they are.
    """
    return {"written": earlier}


def stored_values(kind: type) -> dict[str, dict[str, Any]]:
    """Settings of :func:`stored_as`: current value -> stored value."""
    named = {field.name: field.metadata for field in dataclasses.fields(kind)}
    return {name: about["written"] for name, about in named.items() if "written" in about}


def legacy_defaults(kind: type) -> dict[str, Any]:
    """Settings of :func:`added_later`, with their value in records that lack them."""
    named = {field.name: field.metadata for field in dataclasses.fields(kind)}
    return {name: about["before"] for name, about in named.items() if "before" in about}


def default_of(field: dataclasses.Field[Any]) -> Any:
    """Default of a setting; MISSING if it has none."""
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()

# SPDX-License-Identifier: Apache-2.0
"""Offline mode: no downloads; models of the Hugging Face hub are read from its local cache.

``PIPPIN_OFFLINE=1`` or ``--offline`` turns it on, and so does ``HF_HUB_OFFLINE=1``. Worker
processes inherit it with the environment. This module imports none of the hub's libraries, because
they read their switches only once, when they are imported.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

SWITCH = "PIPPIN_OFFLINE"
HUB_SWITCHES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
"""Environment variables that turn off the downloads of huggingface_hub."""
LIBRARY_SWITCHES = (*HUB_SWITCHES, "HF_DATASETS_OFFLINE")
"""Environment variables of huggingface_hub, transformers and datasets that offline mode sets."""
ON, OFF = ("1", "on", "yes", "true"), ("", "0", "off", "no", "false")
"""Values of a switch, in any case."""


def is_offline() -> bool:
    """Whether downloads are turned off.

    Raises:
        ValueError: ``PIPPIN_OFFLINE`` has an unknown value.
    """
    return active_switch(os.environ) is not None


def active_switch(environment: Mapping[str, str]) -> str | None:
    """Name of the first environment variable that turns downloads off; None if they are allowed.

    Raises:
        ValueError: ``PIPPIN_OFFLINE`` has an unknown value.
    """
    value = environment.get(SWITCH, "")
    if value.lower() not in ON + OFF:
        raise ValueError(
            f"{SWITCH} is neither on nor off; got {value!r}, allowed: 1 or 0; type: "
            f"export {SWITCH}=1, or unset {SWITCH}"
        )
    switches = (SWITCH, *HUB_SWITCHES)
    return next((name for name in switches if environment.get(name, "").lower() in ON), None)


@contextmanager
def offline_mode(requested: bool) -> Iterator[None]:
    """Set every switch inside the context if ``--offline`` or ``PIPPIN_OFFLINE`` requests it.

    Otherwise the switches stay as they are: the hub's libraries read their own.

    Args:
        requested: ``--offline`` was given.

    Raises:
        ValueError: ``PIPPIN_OFFLINE`` has an unknown value.
    """
    if not requested and active_switch(os.environ) != SWITCH:
        yield
        return
    names = (SWITCH, *LIBRARY_SWITCHES)
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def offline_reason() -> str:
    """Clause of a message that says what turned downloads off."""
    name = active_switch(os.environ) or SWITCH
    switch = f"--offline or {name}=1" if name == SWITCH else f"{name}=1"
    return f"pippin is offline ({switch})"


def online_advice() -> str:
    """Clause of a message that says how to allow downloads again."""
    name = active_switch(os.environ) or SWITCH
    return f"leave out --offline and unset {name}" if name == SWITCH else f"unset {name}"

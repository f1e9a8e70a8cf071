# SPDX-License-Identifier: Apache-2.0
"""Names of the transfer rules."""

from typing import Literal

RuleName = Literal["positions", "classes", "semantics", "control", "patches"]

# SPDX-License-Identifier: Apache-2.0
"""Names of the rules of a transfer."""

from typing import Literal

RuleName = Literal["positions", "classes", "semantics", "control", "patches"]

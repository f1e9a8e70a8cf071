# SPDX-License-Identifier: Apache-2.0
"""The reference page of all settings."""


def configuration_page() -> str:
    return "# Configuration\n"

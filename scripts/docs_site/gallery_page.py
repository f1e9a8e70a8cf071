# SPDX-License-Identifier: Apache-2.0
"""The gallery of the kept studies."""


def gallery_page() -> str:
    return "# Results\n"

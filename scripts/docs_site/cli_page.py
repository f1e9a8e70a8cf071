# SPDX-License-Identifier: Apache-2.0
"""The reference page of the command line: the help of every verb."""


def cli_page() -> str:
    return "# Command line\n"

# SPDX-License-Identifier: Apache-2.0
"""Run-time checker of signatures under tests: an int is accepted as a float, as by mypy."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))

# SPDX-License-Identifier: Apache-2.0
"""The run-time checker of signatures under tests: an int passes for a float, as for mypy."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))

# SPDX-License-Identifier: Apache-2.0
"""The engine of studies: arms, seeds, runner, statistics and verdicts."""

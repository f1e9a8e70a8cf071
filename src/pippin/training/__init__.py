# SPDX-License-Identifier: Apache-2.0
"""Training loop, training state and hooks; start and resumption of runs."""

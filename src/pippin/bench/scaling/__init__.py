# SPDX-License-Identifier: Apache-2.0
"""Scaling curves: how time and memory grow with tokens, width, batch, ranks, data and samples."""

# SPDX-License-Identifier: Apache-2.0
"""Evaluations of a run: which samples, which settings, which metrics."""

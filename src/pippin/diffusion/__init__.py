# SPDX-License-Identifier: Apache-2.0
"""Noise schedules, prediction types, time densities and loss weights: pure mathematics."""

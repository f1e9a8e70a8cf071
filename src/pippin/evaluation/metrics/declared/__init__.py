# SPDX-License-Identifier: Apache-2.0
"""Metrics: identity, words, unit and direction, one module each; without torch."""

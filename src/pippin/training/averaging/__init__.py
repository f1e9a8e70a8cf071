# SPDX-License-Identifier: Apache-2.0
"""Averages of the weights: profiles, reconstruction, configurations."""

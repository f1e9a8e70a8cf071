# SPDX-License-Identifier: Apache-2.0
"""Architectures: forward(x_t, embedded) and nothing else."""

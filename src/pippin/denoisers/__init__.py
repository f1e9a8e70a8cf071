# SPDX-License-Identifier: Apache-2.0
"""Denoiser architectures, with the interface forward(x_t, embedded)."""

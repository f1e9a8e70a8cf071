# SPDX-License-Identifier: Apache-2.0
"""Guidance, solvers and the sampler; samples of trained runs."""

# SPDX-License-Identifier: Apache-2.0
"""DiT: model, configuration, published weights, diffusers' weights."""

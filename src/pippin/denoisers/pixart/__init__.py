# SPDX-License-Identifier: Apache-2.0
"""PixArt-alpha: model, configuration, published weights, diffusers' weights."""

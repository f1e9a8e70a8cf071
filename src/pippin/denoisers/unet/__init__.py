# SPDX-License-Identifier: Apache-2.0
"""UNet of latent diffusion: model, configuration, published weights, diffusers' weights."""

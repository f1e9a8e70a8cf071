# SPDX-License-Identifier: Apache-2.0
"""pippin: apple-to-apple training recipes for latent diffusion models."""

__version__ = "0.1.0"

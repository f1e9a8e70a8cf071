# SPDX-License-Identifier: Apache-2.0
"""Autoencoders: pixels, moments and normalised latents."""

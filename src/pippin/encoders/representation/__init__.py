# SPDX-License-Identifier: Apache-2.0
"""Representation autoencoders: latents are features of a frozen encoder, and a decoder is trained
(Zheng et al. 2025, arXiv 2510.11690)."""

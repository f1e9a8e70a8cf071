# SPDX-License-Identifier: Apache-2.0
"""Autoencoders, text encoders and captioning models."""

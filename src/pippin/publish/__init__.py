# SPDX-License-Identifier: Apache-2.0
"""Models for others: model cards, pipelines of diffusers, Spaces, uploads to the hub."""

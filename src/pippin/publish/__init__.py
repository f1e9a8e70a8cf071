# SPDX-License-Identifier: Apache-2.0
"""Folders for others: whole pipelines of diffusers, and Spaces."""

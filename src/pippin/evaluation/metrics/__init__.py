# SPDX-License-Identifier: Apache-2.0
"""Declarations of pippin's metrics: one file for each family, named after its computation."""

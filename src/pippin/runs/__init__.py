# SPDX-License-Identifier: Apache-2.0
"""Run folders: records, checkpoints, trained weights, and the components built from a recipe."""

# SPDX-License-Identifier: Apache-2.0
"""The composition root: from a recipe to training, samples and measures."""

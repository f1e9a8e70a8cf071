# SPDX-License-Identifier: Apache-2.0
"""Exact reader of images of coloured shapes, and accuracy against their captions."""

# SPDX-License-Identifier: Apache-2.0
"""Procedural scenes of coloured shapes: their law, their drawings, their captions."""

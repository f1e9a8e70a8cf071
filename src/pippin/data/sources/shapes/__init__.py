# SPDX-License-Identifier: Apache-2.0
"""Procedural scenes of coloured shapes: distribution, rendering and captions."""

# SPDX-License-Identifier: Apache-2.0
"""Layers that two or more denoisers share."""

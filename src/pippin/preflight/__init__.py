# SPDX-License-Identifier: Apache-2.0
"""Checks of a training before anything is spent, and its plan against what it took."""

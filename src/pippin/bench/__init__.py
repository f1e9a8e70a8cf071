# SPDX-License-Identifier: Apache-2.0
"""How fast a recipe trains, where its step's time goes, and against what."""

# SPDX-License-Identifier: Apache-2.0
"""Recipes: complete configurations, as functions derived from one another."""

# SPDX-License-Identifier: Apache-2.0
"""Processes that work on one model, cache or set of samples together."""

# SPDX-License-Identifier: Apache-2.0
"""Weights of other implementations, in and out."""

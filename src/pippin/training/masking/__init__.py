# SPDX-License-Identifier: Apache-2.0
"""Deferred masking of tokens in training."""

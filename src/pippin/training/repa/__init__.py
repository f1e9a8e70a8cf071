# SPDX-License-Identifier: Apache-2.0
"""REPA: alignment of a block's tokens with the features of a frozen image encoder."""

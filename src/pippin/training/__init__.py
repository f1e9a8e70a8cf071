# SPDX-License-Identifier: Apache-2.0
"""The training loop, its state and its hooks."""

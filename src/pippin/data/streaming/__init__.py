# SPDX-License-Identifier: Apache-2.0
"""Data sets whose images are encoded from shards without unpacking them."""

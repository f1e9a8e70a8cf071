# SPDX-License-Identifier: Apache-2.0
"""Models shared on the hub: model cards and uploads."""

# SPDX-License-Identifier: Apache-2.0
"""Storage of a run: rules of checkpoints, snapshots and reconstructed averages."""

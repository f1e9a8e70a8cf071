# SPDX-License-Identifier: Apache-2.0
"""Training objective: noising of a batch, prediction target and loss weight."""

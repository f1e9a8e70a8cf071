# SPDX-License-Identifier: Apache-2.0
"""References, metrics, and evaluations of runs and folders."""

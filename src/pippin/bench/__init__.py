# SPDX-License-Identifier: Apache-2.0
"""Training throughput: measurement, timing of a step's parts, comparisons."""

# SPDX-License-Identifier: Apache-2.0
"""Settings: bounds, marks, names of weights, and conversion to JSON and back."""

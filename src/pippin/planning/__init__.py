# SPDX-License-Identifier: Apache-2.0
"""Cost and memory of training before it starts."""

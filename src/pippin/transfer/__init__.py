# SPDX-License-Identifier: Apache-2.0
"""Trained weights into another model: by named rules, strictly, with a report of every tensor."""

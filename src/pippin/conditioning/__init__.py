# SPDX-License-Identifier: Apache-2.0
"""Conditioning: embedding of labels, text, control and time for denoisers."""

# SPDX-License-Identifier: Apache-2.0
"""Parsing of options, and help, which the verbs share."""

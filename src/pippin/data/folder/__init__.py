# SPDX-License-Identifier: Apache-2.0
"""Custom data sets: files of a folder, their metadata and captions."""

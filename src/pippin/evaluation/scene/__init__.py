# SPDX-License-Identifier: Apache-2.0
"""What images of coloured shapes show, read exactly, and how often that is what was asked for."""

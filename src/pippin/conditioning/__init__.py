# SPDX-License-Identifier: Apache-2.0
"""The only door between conditions and denoisers."""

# SPDX-License-Identifier: Apache-2.0
"""Reading and writing of foreign weight files, conversion and export."""

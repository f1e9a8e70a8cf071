# SPDX-License-Identifier: Apache-2.0
"""Import and export of other implementations' weights."""

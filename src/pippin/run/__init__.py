# SPDX-License-Identifier: Apache-2.0
"""Earlier names of modules, for programs that import them."""

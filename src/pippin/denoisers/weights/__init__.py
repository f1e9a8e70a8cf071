# SPDX-License-Identifier: Apache-2.0
"""Tables and arguments that the weight mappings of several denoisers share."""

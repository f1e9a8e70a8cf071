# SPDX-License-Identifier: Apache-2.0
"""Weight transfer into another model: named rules, strict checks, a report of every tensor."""

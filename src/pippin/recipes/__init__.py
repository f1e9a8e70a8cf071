# SPDX-License-Identifier: Apache-2.0
"""Complete configurations, as functions derived from one another."""

# SPDX-License-Identifier: Apache-2.0
"""Worker processes: pools, fork servers, and the end of workers with their parent."""

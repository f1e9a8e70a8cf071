# SPDX-License-Identifier: Apache-2.0
"""Reports of runs and studies: tables, figures and pages."""

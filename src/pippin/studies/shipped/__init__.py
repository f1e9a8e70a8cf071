# SPDX-License-Identifier: Apache-2.0
"""The studies that pippin ships."""

# SPDX-License-Identifier: Apache-2.0
"""Programs that are copied into published folders as they are."""

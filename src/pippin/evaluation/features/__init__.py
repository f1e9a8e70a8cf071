# SPDX-License-Identifier: Apache-2.0
"""Networks whose features and distances metrics use."""

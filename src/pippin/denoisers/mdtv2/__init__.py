# SPDX-License-Identifier: Apache-2.0
"""MDTv2: model, configuration, published weights."""

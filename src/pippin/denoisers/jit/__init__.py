# SPDX-License-Identifier: Apache-2.0
"""JiT: model, configuration, published weights."""

# SPDX-License-Identifier: Apache-2.0
"""DDT: model, configuration, published weights."""

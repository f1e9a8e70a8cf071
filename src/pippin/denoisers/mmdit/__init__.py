# SPDX-License-Identifier: Apache-2.0
"""mmDiT: model, configuration, published weights, diffusers' weights."""

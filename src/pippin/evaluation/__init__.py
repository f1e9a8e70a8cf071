# SPDX-License-Identifier: Apache-2.0
"""Features, distances between sets of images, denoising loss and control drift."""

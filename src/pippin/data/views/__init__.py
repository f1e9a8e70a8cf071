# SPDX-License-Identifier: Apache-2.0
"""Views of images: crops, augmentation, sizes and buckets, with their control metadata."""

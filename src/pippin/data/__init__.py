# SPDX-License-Identifier: Apache-2.0
"""Image sources, crops with their control metadata, latent caches and the data loader."""

# SPDX-License-Identifier: Apache-2.0
"""Sources of pictures, crops with their control metadata, latent caches and the loader."""

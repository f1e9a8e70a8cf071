# SPDX-License-Identifier: Apache-2.0
"""Operating system services: atomic files, JSON Lines, locks, signals, devices."""

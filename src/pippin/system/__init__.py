# SPDX-License-Identifier: Apache-2.0
"""What pippin asks of the operating system: whole files, JSON lines, locks, signals, a device."""

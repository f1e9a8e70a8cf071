# SPDX-License-Identifier: Apache-2.0
"""Playground: samples of one or two runs in a local page, by :mod:`pippin.cli.play`."""

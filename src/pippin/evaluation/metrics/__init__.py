# SPDX-License-Identifier: Apache-2.0
"""Declarations of pippin's metrics: one file for each family, named after its computation.

Each file calls :func:`pippin.evaluation.metric_registry.ship_metric`, and no table lists it. The
files import no torch, because reports read them: computations in them import it when they run, as
in ``sharpness.py``.
"""

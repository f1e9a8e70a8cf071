# SPDX-License-Identifier: Apache-2.0
"""Run-time checks of shapes in signatures, and the plugins with shared fixtures."""

import gc

from shape_checks import begin_test, check_signatures

check_signatures("pippin")

PLUGINS = ("shared_fixtures", "trained_run", "kept_study", "small_autoencoder")


def pytest_configure(config):
    """Import the fixtures, and torch with them, but not in a process that only hands tests out.

    Imports and collection make a million objects that stay: garbage collections would look for
    garbage among them in vain, which takes a sixth of their time.
    """
    if config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput"):
        return
    gc.disable()
    for name in PLUGINS:
        config.pluginmanager.import_plugin(name)


def pytest_runtest_setup():
    """Check the first calls of every function anew."""
    begin_test()


def pytest_collection_finish():
    """Leave imported modules out of later garbage collections, here and in forks, which would
    otherwise copy the pages of each object."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # by default a collection comes every 700 new objects
    gc.enable()

"""Tests of the stand-in host itself, on it, in its own process."""

from Testing.host.isolation import Reporter, pytest_pycollect_makemodule

__all__ = ["pytest_pycollect_makemodule"]


def pytest_configure(config):
    if not config.pluginmanager.has_plugin("host-reporter"):
        config.pluginmanager.register(Reporter(), "host-reporter")

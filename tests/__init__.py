"""Tests; helpers that several files share are in ``tests.helpers``."""

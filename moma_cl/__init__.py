"""Continual learning for material property prediction: modules, composition, prediction."""

__version__ = "0.1.0"

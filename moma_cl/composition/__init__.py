"""Composition: how useful each module is to a task, with which weight, merged into one."""

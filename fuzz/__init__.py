"""Fuzzing of everything that reads what a server or a model wrote."""

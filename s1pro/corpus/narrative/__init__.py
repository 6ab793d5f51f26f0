"""Structured data as training text: sources of records, samples in eight forms, verified rollouts."""

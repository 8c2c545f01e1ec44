"""Metrics: predictions joined with the truth, scores with intervals, optimism of each protocol, the audit, tables."""

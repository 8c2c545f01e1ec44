"""Report: one self-contained HTML page from the run's tables, records and sidecars."""

"""The words of the audit's verdicts."""

CLEAN, DECLARED, VIOLATION = "clean", "leak as declared", "VIOLATION"

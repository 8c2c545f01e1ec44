"""Components: what each one is (spatial match to networks), what each participant has of it, and which differ by group."""

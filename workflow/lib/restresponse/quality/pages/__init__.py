"""Pages of quality: one a scan and one of all scans, each a single file that loads nothing but links to the others."""

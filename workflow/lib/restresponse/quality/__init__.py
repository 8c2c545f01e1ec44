"""Quality of each scan, the decision to use it, and the mask that every cohort shares. Nothing here looks at a cohort."""

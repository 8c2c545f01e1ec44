"""Group ICA: reduction per participant, group PCA of any cohort from cached Gram tiles, stable symmetric FastICA."""

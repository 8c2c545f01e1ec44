"""Stage `classifier`: each protocol's input, choice of hyper-parameters and training, one job a fold."""

"""Episodes: the robot contract, recordings on disk, causal alignment, labels and prepared training files."""

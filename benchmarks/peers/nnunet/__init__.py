"""nnU-Net v2 on a budget of labels of ours, scored by our metrics."""

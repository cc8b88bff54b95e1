"""Prediction: overlapping windows over a prepared image, flips, and what a model file says of itself."""

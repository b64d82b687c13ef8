"""The workshop: from labels to a model of one's own, by way of evaluation and a gate."""

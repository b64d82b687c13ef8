"""The workshop: from labels to a specialist model, by way of evaluation and a gate."""

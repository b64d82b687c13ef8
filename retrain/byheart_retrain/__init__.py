"""From labels to a model of one's own, by way of an evaluation and a gate."""

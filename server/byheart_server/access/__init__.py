"""Who calls, and what they may do: grants, and the caller of the current request."""

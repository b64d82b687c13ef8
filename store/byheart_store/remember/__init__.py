"""Remember: from new memories to committed rows."""

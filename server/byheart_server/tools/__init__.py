"""What the server offers: the five tools and two resources, their wording, results and schemas."""

"""Pages for people, with their own assets; nothing is loaded from elsewhere."""

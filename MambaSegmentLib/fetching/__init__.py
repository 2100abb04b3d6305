"""Models come in: from a file or a web address into the user's folder, and out again."""

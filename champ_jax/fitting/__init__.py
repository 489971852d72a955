"""From pictures and key points to a motion: finding people, and fitting a body to their points."""

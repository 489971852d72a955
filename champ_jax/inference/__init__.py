"""From a picture and motion conditions to a video."""

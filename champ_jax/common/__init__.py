"""What every room uses: errors, files, media, progress, processes and the command line."""

"""What every package uses: errors, files, media, progress, processes and the command line."""

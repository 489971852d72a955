"""The commands beside animate, train and evaluate: each module's `main(arguments)` is one, and tools/ calls some."""

"""The ways in which data sets lie on disk, one module each; all give a `Listing`."""

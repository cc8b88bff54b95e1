"""From files on disk to numbered samples: manifest, checks, preparation, store, patches."""

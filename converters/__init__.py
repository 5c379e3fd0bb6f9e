"""Raw dataset to episodes: readers, specs, conversion."""

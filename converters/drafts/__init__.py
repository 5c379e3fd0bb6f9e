"""A first spec from a look at a source; `converters.drafts.draft` begins."""

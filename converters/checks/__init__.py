"""What a spec makes of a source, slot by slot, and what looks wrong; `converters.checks.check` begins."""

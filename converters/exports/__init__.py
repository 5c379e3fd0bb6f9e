"""A store written in the formats of other projects; `converters.exports.export` begins."""

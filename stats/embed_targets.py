"""The folders that a run fills: where they are, what they lack, and what can be copied from one to the other.

In: the words of stores, an encoder, and the folder that stores share, if any. Out: one target a folder; damaged shards
are taken out of it first. Knows nothing of how an embedding is computed.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rdt_data.errors import StoreError
from rdt_data.language import FOLDER, Language, Pointer, places, pointers
from rdt_data.language_folder import EncoderId, Row, commit, remove, sweep
from stats.embed_words import Words

_COPY_BYTES = 64 << 20  # of embeddings in one file, when they are copied


@dataclass(frozen=True, slots=True)
class Target:
    """A folder to fill, what it held when the run began, and the texts that it shall hold."""

    language: Language
    texts: Mapping[str, None]

    @property
    def lacking(self) -> list[str]:
        """The texts that are to come."""
        return [text for text in self.texts if text not in self.language]

    def add(self, rows: Sequence[Row]) -> None:
        """Commit those of `rows` that are wanted here and were not there."""
        if wanted := [row for row in rows if row.text in self.texts and row.text not in self.language]:
            commit(self.language.fs, self.language.path, self.language.encoder, wanted)


def url_of(words: Words, encoder: EncoderId, shared: str | None) -> str:
    """The folder where the embeddings of a store are to be. shared: a folder (path or URL), None: the store's own."""
    if shared is None:
        return f"{words.dataset.url}/{FOLDER}/{encoder.key}"
    return f"{(shared if '://' in shared else os.path.abspath(shared)).rstrip('/')}/{encoder.key}"


def pointer_of(words: Words, encoder: EncoderId, shared: str | None, missing: str) -> Pointer:
    """What a store is to record: a relative place, so that both can move together, and an absolute one."""
    url = url_of(words, encoder, shared)
    if shared is None:
        return Pointer(encoder, (encoder.key,), missing)
    if "://" in url or "://" in words.dataset.url:
        return Pointer(encoder, (url,), missing)
    base = os.path.abspath(f"{words.dataset.url}/{FOLDER}")
    return Pointer(encoder, (os.path.relpath(url, base), url), missing)


def survey(
    words: Sequence[Words], encoder: EncoderId, shared: str | None, *, verify: bool
) -> tuple[list[Target], dict[str, str]]:
    """The targets; and the damaged shards, which are removed, with the reason.

    verify: read every embedding; else headers and sizes only.
    """
    texts: dict[str, dict[str, None]] = {}
    for one in words:
        texts.setdefault(url_of(one, encoder, shared), {}).update(dict.fromkeys(one.texts))
    targets: list[Target] = []
    removed: dict[str, str] = {}
    for url, wanted in texts.items():
        language = Language(url, encoder)
        sweep(language.fs, language.path)
        if damaged := language.verify() if verify else language.damaged:
            remove(language.fs, list(damaged))
            removed |= damaged
            language = Language(url, encoder)
        targets.append(Target(language, wanted))
    return targets, removed


def copy(words: Sequence[Words], targets: Sequence[Target]) -> tuple[list[str], dict[str, str]]:
    """Copy what one folder has and another lacks. Returns the texts that none has, and what could not be read."""
    sources = list(_sources(words, targets))
    nowhere: dict[str, None] = {}
    damaged: dict[str, str] = {}
    for target in targets:
        rows: list[Row] = []
        for text in target.lacking:
            row = _row(text, sources, damaged)
            if row is None:
                nowhere[text] = None
                continue
            rows.append(row)
            if sum(row.embedding.nbytes for row in rows) > _COPY_BYTES:
                target.add(rows)
                rows = []
        target.add(rows)
    return list(nowhere), damaged


def _sources(words: Sequence[Words], targets: Sequence[Target]) -> Iterator[Language]:
    """Every folder of this encoder that could spare computing: the targets, and where stores had their embeddings."""
    seen = {target.language.url for target in targets}
    yield from (target.language for target in targets)
    encoder = targets[0].language.encoder
    for one in words:
        for pointer in pointers(one.dataset):
            if pointer.encoder.key == encoder.key:
                for url in places(one.dataset, pointer):
                    if url not in seen:
                        seen.add(url)
                        yield Language(url, encoder)


def _row(text: str, sources: Sequence[Language], damaged: dict[str, str]) -> Row | None:
    """The embedding of a text from the first folder that has it whole."""
    for language in sources:
        if text in language:
            try:
                return Row(text, language.tokens(text), language.stored(text))
            except StoreError as error:  # told in the report; the text is computed if no other folder has it
                damaged[f"{language.url}: {text}"] = error.problem
    return None

"""Small data in the form of the book's data sets, generated: pairs of sentences, reviews, vectors."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from zipfile import ZipFile

from d2lrnn.data.data_sets import BOOK_URL

#: What the pairs are made of: a word and its translation.
SUBJECTS = {"I": "je", "you": "tu", "he": "il", "she": "elle", "we": "nous", "they": "ils", "Tom": "Tom",
            "Ann": "Anne", "cats": "les chats", "dogs": "les chiens", "it": "ça", "boys": "les gars",
            "birds": "les oiseaux"}  # fmt: skip
VERBS = {"go": "va", "run": "court", "sleep": "dort", "sing": "chante", "wait": "attend", "eat": "mange",
         "lose": "perd", "win": "gagne", "fall": "tombe", "swim": "nage", "read": "lit",
         "stop": "arrête"}  # fmt: skip
ENDS = {".": ".", "!": "\u202f!", "now.": "maintenant.", "here, too.": "ici aussi.", "?": "\u202f?"}

#: Marks that follow a word without a space of their own.
_ATTACHED = ".\u202f"

GOOD, BAD = ("great", "lovely", "brilliant", "fun"), ("dull", "awful", "boring", "bad")
OTHERS = ("the", "film", "was", "and", "a", "story", "of")


def pairs() -> str:
    """780 pairs of sentences, a line each."""
    lines = [
        f"{subject} {verb}{'' if end in '.!?' else ' '}{end}\t{le_sujet} {le_verbe}"
        f"{'' if fin[0] in _ATTACHED else ' '}{fin}"
        for (end, fin), (verb, le_verbe), (subject, le_sujet) in product(
            ENDS.items(), VERBS.items(), SUBJECTS.items()
        )
    ]
    random.Random(0).shuffle(lines)
    return "\n".join(lines) + "\n"


def reviews() -> Iterator[tuple[str, str]]:
    """The path in the archive and the text of 200 reviews a label to train with, and 32 to test with."""
    generator = random.Random(0)
    for (part, number), (label, words) in product(
        {"train": 200, "test": 32}.items(), {"pos": GOOD, "neg": BAD}.items()
    ):
        for review in range(number):
            text = generator.choices(OTHERS, k=12) + generator.choices(words, k=6)
            generator.shuffle(text)
            yield f"aclImdb/{part}/{label}/{review}_7.txt", " ".join(text)


def vectors(size: int) -> str:
    """15 words with their vectors: those that the reviews are made of."""
    generator = random.Random(0)
    return "".join(
        " ".join([word, *(f"{generator.gauss(0, 0.4):.5f}" for _ in range(size))]) + "\n"
        for word in (*GOOD, *BAD, *OTHERS)
    )


def write_data_sets(folder: Path) -> dict[str, tuple[str, str]]:
    """Writes the archives into a folder; the entries of ``DATA_HUB`` that they are found by."""
    files = {
        "fra-eng": _zip(folder / "fra-eng.zip", {"fra-eng/fra.txt": pairs()}),
        "aclImdb": _tar(folder / "aclImdb_v1.tar.gz", dict(reviews())),
        "glove.6b.50d": _zip(folder / "glove.6B.50d.zip", {"glove.6B.50d/vec.txt": vectors(50)}),
        "glove.6b.100d": _zip(folder / "glove.6B.100d.zip", {"glove.6B.100d/vec.txt": vectors(100)}),
    }
    return {
        name: (BOOK_URL + file.name, hashlib.sha1(file.read_bytes()).hexdigest())
        for name, file in files.items()
    }


def _zip(path: Path, members: Mapping[str, str]) -> Path:
    with ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def _tar(path: Path, members: Mapping[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in members.items():
            info, content = tarfile.TarInfo(name), text.encode()
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path

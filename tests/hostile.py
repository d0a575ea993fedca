"""Ways to spoil a checkpoint, each loaded in a process that may not crash, hang, swell or run code.

    python tests/hostile.py FOLDER NUMBER

FOLDER holds a run with a carried state, an optimiser that remembers, and a change. Every mutation must be
refused with one clear error or load to the same model; the first that does otherwise is printed and ends the
process with 1.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from d2lrnn.errors import RunError
from d2lrnn.saving.run import Run
from d2lrnn.saving.run_folder import load_run

MODEL, STATE, OPTIMIZER = "model.safetensors", "state.safetensors", "optimizer.safetensors"
RUN, SUMS = "run.json", "SHA256SUMS"
ARRAYS = [MODEL, STATE, OPTIMIZER]
#: What Python and NumPy take for the asking, whatever the file holds.
SLACK = 2 << 20
SECONDS = 20

#: What stands in for a value in run.json; none of them is what any of the fields replaced can be.
WRONG = [None, True, -1, 10**12, 10**30, 1.5, 1e300, "x", "", "../../../etc/passwd", [], [1], {}, {"a": 1}]


def seal(folder: Path) -> None:
    """Makes the digests fit, as an attacker would."""
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}"
             for name in (*ARRAYS, RUN) if (folder / name).is_file()]  # fmt: skip
    (folder / SUMS).write_text("\n".join(lines) + "\n")


def flip_a_bit(folder: Path, chance: random.Random) -> None:
    path = folder / chance.choice([*ARRAYS, RUN, SUMS])
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def truncate(folder: Path, chance: random.Random) -> None:
    path = folder / chance.choice([*ARRAYS, RUN, SUMS])
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content))])
    if path.name != SUMS and chance.random() < 0.5:
        seal(folder)


def append(folder: Path, chance: random.Random) -> None:
    path = folder / chance.choice([*ARRAYS, RUN])
    path.write_bytes(path.read_bytes() + chance.randbytes(chance.randrange(1, 5000)))
    seal(folder)


def take_away(folder: Path, chance: random.Random) -> None:
    (folder / chance.choice([*ARRAYS, RUN, SUMS])).unlink()


def put_something_else(folder: Path, chance: random.Random) -> None:
    path = folder / chance.choice([*ARRAYS, RUN, SUMS])
    path.unlink()
    kind = chance.randrange(4)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.mkdir()
    elif kind == 2:
        path.symlink_to(chance.choice(["/dev/zero", "/etc/passwd", "../../elsewhere", path.name]))
    else:
        path.write_bytes(chance.randbytes(chance.randrange(300)))


def lie_about_the_header(folder: Path, chance: random.Random) -> None:
    path = folder / chance.choice(ARRAYS)
    content = path.read_bytes()
    length = chance.choice([0, 1, 2**16, 2**31, 2**63, 2**64 - 1, len(content), len(content) - 8])
    path.write_bytes(struct.pack("<Q", length) + content[8:])
    seal(folder)


def change_the_header(folder: Path, chance: random.Random) -> None:
    path = folder / chance.choice(ARRAYS)
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    name = chance.choice(sorted(header))
    entry = header[name]
    kind = chance.randrange(8)
    if kind == 0:
        entry["shape"] = [2**40, *entry["shape"]]
    elif kind == 1:
        entry["shape"] = [*entry["shape"][::-1], 1]
    elif kind == 2:
        entry["dtype"] = chance.choice(["F64", "F16", "BF16", "I32", "U8", "BOOL", "XX", 3])
    elif kind == 3:
        entry["data_offsets"] = [entry["data_offsets"][0], 2**62]
    elif kind == 4:
        entry["data_offsets"] = [0, 4]
    elif kind == 5:
        header[chance.choice(["../../x", "rnn.9.w_x", "", "__reduce__", "x" * 900])] = header.pop(name)
    elif kind == 6:
        del header[name]
    else:
        header["extra"] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    changed = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(changed)) + changed + content[8 + length :])
    seal(folder)


def put_no_number(folder: Path, chance: random.Random) -> None:
    path = folder / chance.choice(ARRAYS)
    content = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    start = 8 + length + 4 * chance.randrange((len(content) - 8 - length) // 4)
    content[start : start + 4] = np.float32(chance.choice([np.nan, np.inf, -np.inf])).tobytes()
    path.write_bytes(content)
    seal(folder)


def _write_run(folder: Path, document: Any) -> None:
    (folder / RUN).write_text(json.dumps(document), "utf-8")
    seal(folder)


def change_the_description(folder: Path, chance: random.Random) -> None:
    document = json.loads((folder / RUN).read_text("utf-8"))
    parts = [document, document["model"], document["data"], document["training"], document["position"],
             document["position"]["part"], document["position"]["epochs"][0], document["changes"][0],
             document["training"]["optimizer"], document["training"]["schedule"]]  # fmt: skip
    part = chance.choice(parts)
    name = chance.choice(sorted(part))
    kind = chance.randrange(4)
    if kind == 0:
        del part[name]
    elif kind == 1:
        part[chance.choice(["__class__", "extra", name + " "])] = 1
    else:
        part[name] = chance.choice(WRONG)
    _write_run(folder, document)


def change_the_vocabulary(folder: Path, chance: random.Random) -> None:
    document = json.loads((folder / RUN).read_text("utf-8"))
    tokens = document["vocabulary"]
    place = chance.randrange(len(tokens))
    kind = chance.randrange(5)
    if kind == 0:
        tokens.append("more")
    elif kind == 1:
        tokens.pop(place)
    elif kind == 2:
        tokens[place] = tokens[place - 1]
    elif kind == 3:
        tokens[place] = chance.choice([3, None, [], "\ud800"])
    else:
        document["vocabulary"] = [str(number) for number in range(10**5)]
    _write_run(folder, document)


def swell(folder: Path, chance: random.Random) -> None:
    """A description of 2 MB that is small on disk beside what it would be in memory."""
    document = json.loads((folder / RUN).read_text("utf-8"))
    many = 2 << 20
    content, name = chance.choice([
        ("[" + "[]," * (many // 3) + "[]]", "vocabulary"),
        ("[" + '"a",' * (many // 4) + '"b"]', "vocabulary"),
        ("[" + ",".join(f'"{number}"' for number in range(many // 9)) + "]", "vocabulary"),
        ('["' + "\\n\\u00e9a" * (many // 9) + '"]', "vocabulary"),
        ('["\U0001f600' + "x" * many + '"]', "vocabulary"),
        ("[" + "{}," * (many // 3) + "{}]", "position"),
        ('{"epochs": [' + "{}," * (many // 3) + '{}], "step": 1, "part": null}', "position"),
        ('{"epochs": [], "step": 1, "part": [' + "0," * (many // 2) + "0]}", "position"),
        ('"\U0001f600' + "x" * many + '"', "identity"),
        ("{" + ",".join(f'"{number}":1' for number in range(many // 11)) + "}", "versions"),
        ("[" * many, "data"),
    ])  # fmt: skip
    document[name] = "HERE"
    text = json.dumps(document)
    if chance.random() < 0.3:  # and of a name that nobody knows
        text = text.replace(f'"{name}"', f'"{name}s"')
    (folder / RUN).write_text(text.replace('"HERE"', content), "utf-8")
    seal(folder)


def write_no_json(folder: Path, chance: random.Random) -> None:
    whole = (folder / RUN).read_text("utf-8")
    text = chance.choice([
        "[" * 10**6, '{"a":' * 10**6, whole.replace('"step": ', '"step": 1e999, "x": '),
        whole.replace('"seconds": ', '"seconds": NaN, "x": '), "null", "", "9" * 10**5, '{"format": 3}',
        whole.replace('"format": 3', f'"format": {chance.choice([0, 1, 4, "true", "[2]", 2.5])}'),
        whole.replace('"step": ', '"step": ' + "9" * 5000), whole + whole, "\ufeff" + whole,
    ])  # fmt: skip
    (folder / RUN).write_text(text, "utf-8")
    seal(folder)


def change_the_digests(folder: Path, chance: random.Random) -> None:
    sums = (folder / SUMS).read_text()
    (folder / SUMS).write_text(chance.choice([
        "", "\n", sums * 2, sums + sums.split("\n")[0].replace(MODEL, "../../x") + "\n", sums.upper(),
        "0" * 10**6, sums.replace(RUN, MODEL), sums.split("\n")[0] + "\n",
    ]))  # fmt: skip


def mislead(folder: Path, chance: random.Random) -> None:
    pointer = folder.parent / "latest"
    pointer.unlink()
    around = f"../{folder.parent.name}/{folder.name}"
    target = chance.choice(
        ["../..", "/", "/etc", "../elsewhere", "latest", ".", "step-1", "nowhere", around, "step-00000001",
         "x" * 200]
    )  # fmt: skip
    if chance.random() < 0.5:
        pointer.symlink_to(target)
    else:
        pointer.write_bytes(chance.choice([target.encode(), b"\xff\x00", b"", b"step-" * 4000]))


MUTATIONS: list[Callable[[Path, random.Random], None]] = [
    flip_a_bit, truncate, append, take_away, put_something_else, lie_about_the_header, change_the_header,
    put_no_number, change_the_description, change_the_vocabulary, swell, write_no_json, change_the_digests,
    mislead,
]  # fmt: skip


def same_model(one: Run, other: Run) -> bool:
    arrays = other.parameters.items()
    parameters = all(np.array_equal(one.parameters[name], value) for name, value in arrays)
    # The rate belongs to training: another one is the same model.
    specs = [dataclasses.replace(run.model, dropout=0.0) for run in (one, other)]
    words = [run.vocab.to_json() if run.vocab else None for run in (one, other)]
    return parameters and specs[0] == specs[1] and words[0] in (None, words[1])


def _watch() -> None:
    """Ends the process where a load runs code, starts a process or writes."""
    runs = {"exec", "compile", "import", "subprocess.Popen", "os.system", "os.exec", "pickle.find_class"}

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if not watching:
            return
        flags = arguments[2] if event == "open" and isinstance(arguments[2], int) else 0
        if event in runs or flags & (os.O_WRONLY | os.O_RDWR):
            os.write(2, f"{event} {arguments!r}\n".encode())
            os._exit(3)

    sys.addaudithook(audit)


watching = False


def main(folder: Path, number: int) -> int:
    global watching
    whole = load_run(folder)
    checkpoint = (folder / "latest").resolve()
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept, symlinks=True)
    _watch()
    refused = 0
    errors: set[str] = set()
    unlimited = resource.getrlimit(resource.RLIMIT_AS)
    for count in range(number):
        chance = random.Random(count)
        mutation = MUTATIONS[count % len(MUTATIONS)]
        mutation(checkpoint, chance)
        size = sum(path.stat().st_size for path in checkpoint.iterdir() if path.is_file())
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 2 * size + SLACK
        signal.alarm(SECONDS)
        resource.setrlimit(resource.RLIMIT_AS, (limit, unlimited[1]))
        watching = True
        try:
            loaded = load_run(folder)
        except RunError as error:
            refused += 1
            errors.add(str(error)[:40])
            wrong = "an error of several lines" if "\n" in str(error) or len(str(error)) > 600 else ""
        else:
            wrong = "" if same_model(loaded, whole) else "another model"
        finally:
            watching = False
            resource.setrlimit(resource.RLIMIT_AS, unlimited)
            signal.alarm(0)
        if wrong:
            print(f"mutation {count}, {mutation.__name__}: {wrong}")
            return 1
        shutil.rmtree(folder)
        shutil.copytree(kept, folder, symlinks=True)
    print(f"{number} mutations, {refused} refused")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
